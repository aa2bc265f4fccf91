//! Whether a container was killed for want of memory.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::poller::{CHANGE, Key, Poller, READ, Source, Token};

/// `memory.events` (v2) or `memory.oom_control` (v1): both have a line `oom_kill N`.
///
/// It counts the kills of all processes of the container. Those after which the first process lives
/// on are not what it ends of, so it is looked at again a moment after each.
#[derive(Debug)]
pub(super) struct OomCounter {
    file: OwnedFd,
    before: u64,
    above: Option<Above>,
    /// What v1 says it with; `None`: the file itself.
    event: Option<OwnedFd>,
    /// `None`: nothing says when to look.
    token: Option<Token>,
    look_at: Option<Instant>,
    looks_left: u32,
}

/// `memory.events` of the group above, on v2: it counts our kills too, and those of our siblings.
///
/// systemd removes a scope when its last process is gone, which may be before we hear of that end,
/// and the files of a removed group cannot be read. The group above is still there.
#[derive(Debug)]
struct Above {
    file: OwnedFd,
    /// When ours had not risen.
    before: u64,
    token: Option<Token>,
}

/// The kernel counts a kill just before it sends the signal, and v1 tells of it just before it counts.
const A_MOMENT: Duration = Duration::from_millis(100);
/// It may take its time to find somebody to kill.
const LOOKS: u32 = 5;

impl OomCounter {
    /// `unified` is the container's directory on v2, if it has one.
    pub(super) fn new(
        poller: &mut Poller,
        key: Key,
        file: OwnedFd,
        event: Option<OwnedFd>,
        unified: Option<&OwnedFd>,
    ) -> Self {
        let above = unified.and_then(open_above).and_then(|file| {
            let token = poller.add(&file, CHANGE, Source::Memory(key)).ok();
            Some(Above { before: read(&file)?, file, token })
        });
        let before = read(&file).unwrap_or(0);
        let token = match &event {
            Some(event) => poller.add(event, READ, Source::Memory(key)),
            None => poller.add(&file, CHANGE, Source::Memory(key)),
        };
        Self { file, before, above, event, token: token.ok(), look_at: None, looks_left: 0 }
    }

    pub(super) fn close(self, poller: &mut Poller) {
        if let Some(token) = self.token {
            poller.remove(self.event.as_ref().unwrap_or(&self.file), token);
        }
        if let Some(Above { file, token: Some(token), .. }) = self.above {
            poller.remove(&file, token);
        }
    }

    /// The kernel said that the container is out of memory, or on v2 that some counter rose.
    pub(super) fn heard(&mut self) {
        self.tell_apart();
        if let Some(event) = &self.event {
            // Takes the event back; that it was there is all there is to know.
            let _ = rustix::io::read(event, &mut [0_u8; 8]);
        } else if read(&self.file).is_none_or(|now| now <= self.before) {
            return;
        }
        self.look_at.get_or_insert_with(|| Instant::now() + A_MOMENT);
        self.looks_left = LOOKS;
    }

    /// When to look whether the first process lives.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// After a look at the first process.
    pub(super) fn looked_at(&mut self, lives: bool) {
        let now = read(&self.file).unwrap_or(self.before);
        if lives && now > self.before {
            self.before = now;
            self.looks_left = 0;
        }
        self.tell_apart();
        self.looks_left = self.looks_left.saturating_sub(1);
        self.look_at = (self.looks_left > 0).then(|| Instant::now() + A_MOMENT);
    }

    /// Whether somebody was killed since the first process was last seen alive.
    pub(super) fn has_risen(&self) -> bool {
        match (read(&self.file), &self.above) {
            (Some(now), _) => now > self.before,
            (None, Some(above)) => read(&above.file).is_some_and(|now| now > above.before),
            (None, None) => false,
        }
    }

    /// What the group above has counted while ours did not rise were others.
    fn tell_apart(&mut self) {
        let Some(above) = &mut self.above else { return };
        // Read first, for the kernel counts from the bottom up.
        let counted = read(&above.file);
        if let Some(counted) = counted
            && read(&self.file) == Some(self.before)
        {
            above.before = counted;
        }
    }
}

/// `None` where the group above has no such file: the root, and a hierarchy without memory.
fn open_above(directory: &OwnedFd) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(directory, "../memory.events", flags, Mode::empty()).ok()
}

fn read(file: &OwnedFd) -> Option<u64> {
    let mut text = [0_u8; 512];
    let length = rustix::io::pread(file, &mut text, 0).ok()?;
    parse(std::str::from_utf8(text.get(..length)?).ok()?)
}

fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn both_kinds_of_counters_are_understood() {
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(parse("low 0\nhigh 0\nmax 12\noom 4\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse(""), None);
    }

    /// A file that stands in for the kernel's.
    struct Counter(std::fs::File);

    impl Counter {
        fn new() -> Self {
            let counter = Self(tempfile::tempfile().unwrap());
            counter.show("oom_kill 0\n");
            counter
        }

        fn show(&self, text: &str) {
            self.0.set_len(0).unwrap();
            let mut file = &self.0;
            std::io::Seek::rewind(&mut file).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn open(&self) -> OwnedFd {
            self.0.try_clone().unwrap().into()
        }
    }

    fn counters() -> (Counter, Counter, OomCounter) {
        let (own, above) = (Counter::new(), Counter::new());
        let above_file = Above { file: above.open(), before: 0, token: None };
        let watched = OomCounter {
            file: own.open(),
            before: 0,
            above: Some(above_file),
            event: None,
            token: None,
            look_at: None,
            looks_left: 0,
        };
        (own, above, watched)
    }

    #[test]
    fn a_group_that_is_gone_is_known_by_the_one_above() {
        let (own, above, watched) = counters();
        above.show("oom_kill 1\n");
        assert!(!watched.has_risen());
        // As nothing can be read of a removed group.
        own.show("");
        assert!(watched.has_risen());
    }

    #[test]
    fn kills_in_other_groups_are_theirs() {
        let (own, above, mut watched) = counters();
        above.show("oom_kill 1\n");
        watched.heard();
        assert_eq!(watched.look_at(), None);
        own.show("");
        watched.heard();
        assert!(!watched.has_risen());
        above.show("oom_kill 2\n");
        watched.heard();
        assert!(watched.has_risen());
    }

    #[test]
    fn a_kill_that_the_first_process_survived_is_settled() {
        let (own, above, mut watched) = counters();
        own.show("oom_kill 1\n");
        above.show("oom_kill 1\n");
        watched.heard();
        assert!(watched.has_risen() && watched.look_at().is_some());
        watched.looked_at(true);
        assert!(!watched.has_risen());
        own.show("");
        assert!(!watched.has_risen());
    }
}
