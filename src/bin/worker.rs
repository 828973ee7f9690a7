//! `worker`: see `ebbtide::cli`.

fn main() -> std::process::ExitCode {
    ebbtide::cli::worker_main(ebbtide::model::Registry::builtin())
}
