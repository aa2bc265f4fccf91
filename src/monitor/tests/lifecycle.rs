//! Creating, starting, exiting, killing, deleting.

use super::harness::{Pod, within};
use crate::error::Kind;
use crate::monitor::client::failure_of;
use crate::monitor::protocol::{
    ExitStatus, FailureKind, KillScope, Reply, Request, SocketKind, State,
};
use crate::monitor::read_exit_record;

#[tokio::test]
async fn a_container_runs_logs_and_leaves_its_exit_code() {
    let Some(mut pod) = Pod::boot().await else { return };
    let planned = pod.container("one", "echo out; echo err >&2; exit 7");
    let id = planned.id.clone();
    let exit = pod.run(planned).await;

    assert_eq!(exit.status, ExitStatus::Code(7));
    assert!(exit.started_at.is_some_and(|at| at <= exit.finished_at));
    assert!(!exit.oom_killed);
    let mut log = pod.log("one");
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out"]);

    let record = pod.directory.path().join("exits").join(id.as_str());
    assert_eq!(read_exit_record(&super::harness::open(&record)).unwrap(), exit);
    match pod.call(Request::List).await.unwrap() {
        Reply::Containers(list) => assert_eq!(list[0].state, State::Exited(exit)),
        other => panic!("{other:?}"),
    }
    pod.call(Request::Delete { container: id.clone() }).await.unwrap();
    let again = pod.call(Request::Delete { container: id }).await.unwrap_err();
    assert_eq!(again.kind(), Kind::NotFound);
}
