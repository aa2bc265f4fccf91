fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "stream-server") {
        return cais::run_stream_server(arguments);
    }
    std::process::ExitCode::SUCCESS
}
