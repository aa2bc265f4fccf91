//! The daemon.

fn main() -> std::process::ExitCode {
    cais::run_daemon()
}
