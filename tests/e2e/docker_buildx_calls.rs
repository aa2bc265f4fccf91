//! buildx beside building: what a Dockerfile offers.

use serde_json::{Value, json};

use crate::docker::{Docker, Output, output};
use crate::docker_build::{Context, nothing_left};
use crate::docker_buildx::with_buildx;

const OFFERS: &str = "\
# WHO is greeted
ARG WHO=you
FROM busybox AS base
# MODE how it is made
ARG MODE=fast
RUN --mount=type=secret,id=token --mount=type=ssh,required echo $MODE > /mode
# app greets
FROM base AS app
ARG WHO
RUN echo hello $WHO > /hello
FROM busybox AS other
RUN echo other > /other
";

async fn in_context(docker: &Docker, context: &Context, words: &[&str]) -> Output {
    let child = docker.command(words).current_dir(&context.0).spawn().unwrap();
    output(child, "docker buildx").await
}

#[tokio::test]
async fn buildx_tells_what_a_dockerfile_offers() {
    let (node, docker) = with_buildx().await;
    let context =
        Context::new(&node, "context", &[("Dockerfile", OFFERS), ("file", "from the context")]);
    let call = async |words: &[&str]| {
        let done = in_context(&docker, &context, &[&["build"], words, &["."]].concat()).await;
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout
    };
    let outline =
        call(&["--call", "outline,format=json", "--target", "app", "--build-arg", "MODE=slow"])
            .await;
    let outline: Value = serde_json::from_str(&outline).unwrap();
    assert_eq!((&outline["name"], &outline["description"]), (&json!("app"), &json!("greets")));
    let args = outline["args"].as_array().unwrap();
    let told = |arg: &Value| json!([arg["name"], arg["value"], arg["description"]]);
    let expected = [json!(["WHO", "you", "is greeted"]), json!(["MODE", "slow", "how it is made"])];
    assert_eq!(args.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(outline["secrets"][0]["name"], "token");
    assert_eq!(
        (&outline["ssh"][0]["name"], &outline["ssh"][0]["required"]),
        (&json!("default"), &json!(true))
    );
    let shown = call(&["--call", "outline"]).await;
    assert!(
        shown.contains("TARGET:") && shown.contains("other") && !shown.contains("WHO"),
        "{shown}"
    );
    let shown = call(&["--call", "targets"]).await;
    assert!(
        shown.contains("base") && shown.contains("greets") && shown.contains("other (default)"),
        "{shown}"
    );
    let wrong =
        in_context(&docker, &context, &["build", "--call", "outline", "--target", "x", "."]).await;
    assert!(wrong.code == 1 && wrong.stderr.contains("\"x\" could not be found"), "{wrong:?}");
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}
