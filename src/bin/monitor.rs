//! The per-pod process. The daemon starts it with a listening socket as standard input.

fn main() -> std::process::ExitCode {
    cais::run_monitor()
}
