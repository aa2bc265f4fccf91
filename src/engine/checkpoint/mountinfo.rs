//! What a container has mounted, as `proc_pid_mountinfo(5)` tells it.

use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::sys::mountinfo::unescape;

/// One mount. Two containers made from one request differ in nothing of it but what is left out:
/// numbers, and for proc, which belongs to a PID namespace, the device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mount {
    /// As the kernel writes it, with its escapes undone.
    pub(super) target: Vec<u8>,
    root: String,
    options: String,
    fstype: String,
    device: String,
}

/// In a stable order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounts(Vec<Mount>);

pub(super) fn of_process(pid: i32) -> Result<Mounts> {
    let path = format!("/proc/{pid}/mountinfo");
    let text = std::fs::read_to_string(Path::new(&path)).with_context(|| format!("read {path}"))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Mounts> {
    let mounts = text.lines().map(parse_line).collect::<Option<Vec<_>>>();
    let mut mounts = mounts.ok_or_else(|| Error::internal("mountinfo cannot be read"))?;
    mounts.sort();
    // CRIU tells the key from the value by these.
    if let Some(odd) = mounts.iter().find(|it| it.target.contains(&b']')) {
        let target = String::from_utf8_lossy(&odd.target);
        return Err(Error::wrong_state(format!("the mount point {target:?} has a `]`")));
    }
    Ok(Mounts(mounts))
}

/// `36 35 98:0 /root /target rw,noatime master:1 - ext4 /dev/root rw`
fn parse_line(line: &str) -> Option<Mount> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(2);
    let (device, root, target, options) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let fstype = filesystem.split(' ').next()?;
    Some(Mount {
        target: unescape(target),
        root: root.to_owned(),
        options: options.to_owned(),
        fstype: fstype.to_owned(),
        device: if fstype == "proc" { String::new() } else { device.to_owned() },
    })
}

impl Mounts {
    /// Those that CRIU binds from what it is given: all but the root and proc, which is made anew in
    /// the restored PID namespace.
    pub(super) fn external(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter().filter(|mount| mount.fstype != "proc" && mount.target != b"/")
    }

    /// The first mount that is here and not there.
    pub(super) fn difference<'a>(&'a self, other: &Self) -> Option<&'a Mount> {
        self.0.iter().find(|mount| !other.0.contains(mount))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Mount {
    /// `mnt[/target]:/target`: at the restore it is asked for under the same name.
    pub(super) fn key_of_dump(&self) -> Vec<u8> {
        [b"mnt[", &self.target[..], b"]:", &self.target[..]].concat()
    }

    pub(super) fn key_of_restore(&self, source: &Path) -> Vec<u8> {
        let source = source.as_os_str().as_encoded_bytes();
        [b"mnt[", &self.target[..], b"]:", source].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "45 49 0:39 / / rw,relatime - overlay none rw,lowerdir=/x\n\
        54 45 0:41 / /proc rw,nosuid - proc none rw\n\
        71 54 0:55 /null /proc/keys ro,nosuid shared:3 - tmpfs none rw\n\
        72 45 254:0 /a\\040b /my\\040data rw - ext4 /dev/vda rw\n";

    #[test]
    fn all_but_root_and_proc_are_external() {
        let mounts = parse(TEXT).unwrap();
        let keys: Vec<_> = mounts.external().map(Mount::key_of_dump).collect();
        assert_eq!(keys, [&b"mnt[/my data]:/my data"[..], b"mnt[/proc/keys]:/proc/keys"]);
    }

    #[test]
    fn the_same_mounts_with_other_numbers_are_equal_and_other_options_are_not() {
        let mounts = parse(TEXT).unwrap();
        let renumbered = TEXT.replace("54 45 0:41", "99 45 0:77");
        assert_eq!(parse(&renumbered).unwrap(), mounts);
        for (from, to) in [("ro,nosuid", "rw,nosuid"), ("/null", "/other"), ("0:55", "0:56")] {
            let other = parse(&TEXT.replace(from, to)).unwrap();
            assert!(mounts.difference(&other).is_some(), "{to}");
        }
    }

    #[test]
    fn a_target_that_criu_would_misread_is_refused() {
        assert!(parse("1 2 0:1 / /a]:/b rw - tmpfs none rw\n").is_err());
    }
}
