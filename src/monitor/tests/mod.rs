//! A real monitor with real containers, as root. The monitor is this test program, executed again.

mod backend;
mod confinement;
mod exec;
mod harness;
mod lifecycle;
mod program;
mod streams;
mod users;

/// Not a test: what [`harness`] executes as the monitor. The runner of tests has threads, which a
/// monitor must not have, so it is a fork of the one thread that is here.
#[test]
fn monitor_process() {
    use crate::sys::clone::{Forked, clone3, exit_child};

    if std::env::var_os(harness::MARK).is_none() {
        return;
    }
    match clone3(0, None).unwrap() {
        Forked::Child => {
            // A test that is killed must not leave monitors behind.
            let parent_gone = Some(rustix::process::Signal::KILL);
            rustix::process::set_parent_process_death_signal(parent_gone).unwrap();
            let code = i32::from(super::run().is_err());
            exit_child(code)
        }
        Forked::Parent { pid, .. } => {
            let (_, status) =
                rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
                    .unwrap()
                    .unwrap();
            assert_eq!(status.exit_status(), Some(0));
        }
    }
}
