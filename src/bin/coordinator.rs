//! `coordinator`: see `ebbtide::cli`.

fn main() -> std::process::ExitCode {
    ebbtide::cli::coordinator_main(ebbtide::model::Registry::builtin())
}
