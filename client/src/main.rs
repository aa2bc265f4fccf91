//! `cais`: the command line client.

fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    cais_client::run(&arguments)
}
