//! A host that loses its power: of a node it leaves the root directory, and nothing that runs or lives in memory.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::{Node, leftovers};
use crate::wait::until;

impl Node {
    /// Until [`Node::start`] the node is as before the first start after a boot.
    pub(crate) async fn lose_power(&self) {
        self.kill();
        until("the end of all that ran", async || {
            let running = leftovers::processes(self);
            for pid in &running {
                // One that has ended meanwhile is none the less gone.
                let _ = kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL);
            }
            running.is_empty()
        })
        .await;
        until("cgroups to be empty", async || {
            let parents = leftovers::cgroup_parents(self);
            parents.iter().all(|it| remove_groups(it))
        })
        .await;
        for bridge in self.bridges() {
            if Path::new("/sys/class/net").join(&bridge).exists() {
                succeeds("ip", &["link", "delete", &bridge]);
            }
        }
        for table in leftovers::tables(self) {
            let words: Vec<&str> = ["delete"].into_iter().chain(table.split(' ')).collect();
            succeeds("nft", &words);
        }
        fs::remove_dir_all(&self.state).unwrap();
    }

    /// The node's own, and those of the networks on record.
    fn bridges(&self) -> Vec<String> {
        let records = fs::read_dir(self.home.join("root/networks")).into_iter().flatten().flatten();
        let names = records.filter_map(|it| it.file_name().into_string().ok());
        let bridges = names.filter_map(|it| Some(format!("br-{}", it.get(..12)?)));
        bridges.chain([self.bridge.clone()]).collect()
    }
}

/// Bottom up; whether all are gone.
fn remove_groups(group: &Path) -> bool {
    leftovers::subdirectories(group).for_each(|it| {
        remove_groups(&it);
    });
    fs::remove_dir(group).is_ok()
}

fn succeeds(program: &str, words: &[&str]) {
    let done = Command::new(program).args(words).output().expect(program);
    assert!(done.status.success(), "{program} {words:?}: {done:?}");
}
