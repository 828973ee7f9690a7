//! `ebbtide`: see `ebbtide::cli`.

fn main() -> std::process::ExitCode {
    ebbtide::cli::main(ebbtide::model::Registry::builtin())
}
