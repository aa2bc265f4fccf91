use tiny_http::{Response, Server};

fn main() {
    let server = Server::http("0.0.0.0:8080").expect("listen");
    for (number, request) in server.incoming_requests().enumerate() {
        let _ = request.respond(Response::from_string(format!("rust says {}\n", number + 1)));
    }
}
