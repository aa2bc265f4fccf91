//! A real monitor with real containers, as root. The monitor is this test program, executed again.

mod harness;
mod lifecycle;

/// Not a test: what [`harness`] executes as the monitor.
#[test]
fn monitor_process() {
    if std::env::var_os(harness::MARK).is_some() {
        super::run().unwrap();
    }
}
