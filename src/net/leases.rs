//! Which pod holds which address: one file per address, named by it, holding the pod's id.
//!
//! ```text
//!   STATE/leases/10.88.0.2     "4f0c…"     created with O_EXCL, removed when given back
//! ```
//!
//! The directory is the truth and outlives the daemon; a bitmap in memory, rebuilt at start, makes
//! taking an address quick. Addresses are handed out in turn, so that one just given back rests as
//! long as the subnet allows: a client's stale connection then meets nobody instead of a stranger.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ipnet::Ipv4Net;

use crate::error::{Context, Error, Kind, Result};
use crate::id::PodId;

/// Ending of what is kept for somebody to look at.
pub(super) const DAMAGED: &str = "damaged";

/// The addresses there are to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) subnet: Ipv4Net,
    /// The bridge's own.
    pub(crate) gateway: Ipv4Addr,
    /// What is given to those who want none in particular; `None`: all of the subnet.
    pub(crate) range: Option<Ipv4Net>,
    /// Given to nobody.
    pub(crate) reserved: Vec<Ipv4Addr>,
}

impl Pool {
    /// All of the subnet; its first address is the gateway's.
    pub(crate) fn of(subnet: Ipv4Net) -> Self {
        Self { subnet, gateway: Leases::gateway(subnet), range: None, reserved: Vec::new() }
    }
}

/// The addresses of one subnet.
#[derive(Debug)]
pub(crate) struct Leases {
    directory: PathBuf,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    subnet: Ipv4Net,
    taken: Vec<u64>,
    /// What only those get who ask for it; empty without a range.
    outside: Vec<u64>,
    holders: BTreeMap<PodId, Ipv4Addr>,
    /// Where the search for the next address begins, as a distance from the network address.
    next: u32,
}

impl Leases {
    /// Opens the directory, making it if needed, and reads the leases in it. One that is damaged is
    /// set aside, one that cannot belong to anybody (outside the subnet, of a pod that has another)
    /// is dropped.
    pub(crate) fn open(directory: &Path, pool: &Pool) -> Result<Self> {
        let subnet = pool.subnet;
        if subnet.prefix_len() > 30 || subnet.prefix_len() < 8 {
            let message = format!("subnet {subnet} must be between /8 and /30");
            return Err(Error::invalid(message));
        }
        let describe = || format!("open the lease directory {}", directory.display());
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(describe)?;

        let mut table = Table::empty(pool);
        let mut newest: Option<(SystemTime, Ipv4Addr)> = None;
        for entry in std::fs::read_dir(directory).with_context(describe)? {
            let entry = entry.with_context(describe)?;
            let name = entry.file_name();
            if Path::new(&name).extension().is_some_and(|extension| extension == DAMAGED) {
                continue;
            }
            let Some(address) = name.to_str().and_then(|name| name.parse::<Ipv4Addr>().ok()) else {
                drop_lease(&entry.path());
                continue;
            };
            let Some(holder) = read_holder(&entry.path()) else {
                set_aside(&entry.path())?;
                continue;
            };
            if !table.insert(address, holder) {
                drop_lease(&entry.path());
                continue;
            }
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            if let Ok(written) = written {
                newest = newest.max(Some((written, address)));
            }
        }
        if let Some((_, address)) = newest {
            table.next = table.offset(address).unwrap_or(0) + 1;
        }
        Ok(Self { directory: directory.to_owned(), table: Mutex::new(table) })
    }

    /// The first address of the subnet: the bridge's own, and the pods' gateway.
    pub(crate) fn gateway(subnet: Ipv4Net) -> Ipv4Addr {
        subnet.hosts().next().unwrap_or(subnet.network())
    }

    /// Gives the pod the address that it wants, any without a wish, or the one it holds already.
    ///
    /// # Errors
    /// `AlreadyExists` for a wish that another pod has, `Exhausted` when none is free.
    pub(crate) fn take(&self, pod: &PodId, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
        let mut table = self.lock();
        if let Some(address) = table.holders.get(pod) {
            return Ok(*address);
        }
        if let Some(wanted) = wanted {
            if !table.is_free(wanted) {
                return Err(Error::new(Kind::AlreadyExists, "Address already in use"));
            }
            self.write(wanted, pod).with_context(|| format!("write the lease of {wanted}"))?;
            table.insert(wanted, pod.clone());
            return Ok(wanted);
        }
        loop {
            let Some(address) = table.free() else {
                let message = format!("no address is free in {}", table.subnet);
                return Err(Error::new(Kind::Exhausted, message));
            };
            match self.write(address, pod) {
                Ok(()) => {
                    table.insert(address, pod.clone());
                    return Ok(address);
                }
                // Written behind our back: believe the directory and go on.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => table.mark(address),
                Err(error) => {
                    return Err(error).with_context(|| format!("write the lease of {address}"));
                }
            }
        }
    }

    /// Gives a living pod back the lease that it had: the file may have been damaged.
    pub(crate) fn restore(&self, pod: &PodId, address: Ipv4Addr) -> Result<()> {
        let mut table = self.lock();
        if table.insert(address, pod.clone()) {
            self.write(address, pod)
                .with_context(|| format!("write the lease of {address} again"))?;
        }
        Ok(())
    }

    /// The address the pod holds.
    pub(crate) fn of(&self, pod: &PodId) -> Option<Ipv4Addr> {
        self.lock().holders.get(pod).copied()
    }

    /// Gives the pod's address back; a pod without one is fine.
    pub(crate) fn release(&self, pod: &PodId) -> Result<()> {
        let mut table = self.lock();
        let Some(address) = table.holders.get(pod).copied() else { return Ok(()) };
        match std::fs::remove_file(self.path(address)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove the lease of {address}"));
            }
            Ok(()) | Err(_) => table.remove(pod, address),
        }
        Ok(())
    }

    /// Every pod with an address, for whoever knows which of them still exist.
    pub(crate) fn all(&self) -> Vec<(PodId, Ipv4Addr)> {
        self.lock().holders.iter().map(|(pod, address)| (pod.clone(), *address)).collect()
    }

    fn write(&self, address: Ipv4Addr, pod: &PodId) -> std::io::Result<()> {
        let path = self.path(address);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(pod.as_str().as_bytes()).inspect_err(|_| drop_lease(&path))
    }

    fn path(&self, address: Ipv4Addr) -> PathBuf {
        self.directory.join(address.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn empty(pool: &Pool) -> Self {
        let subnet = pool.subnet;
        let words = usize::try_from(size(subnet).div_ceil(64)).unwrap_or(0);
        let mut table = Self {
            subnet,
            taken: vec![0; words],
            outside: pool.range.map_or_else(Vec::new, |range| outside(subnet, range, words)),
            holders: BTreeMap::new(),
            next: 0,
        };
        let reserved = pool.reserved.iter().copied();
        for reserved in reserved.chain([subnet.network(), pool.gateway, subnet.broadcast()]) {
            table.mark(reserved);
        }
        table
    }

    /// Whether the address is one of the subnet's that nobody has.
    fn is_free(&mut self, address: Ipv4Addr) -> bool {
        self.bit(address).is_some_and(|(word, bit)| *word & bit == 0)
    }

    /// The first free address at or after `next`, wrapping once.
    fn free(&self) -> Option<Ipv4Addr> {
        let size = size(self.subnet);
        let words = self.taken.len();
        let start = self.next % size;
        // The first word is looked at twice: from `start` on, and in the end below it.
        for step in 0..=words {
            let word = (start as usize / 64 + step) % words;
            let outside = self.outside.get(word).copied().unwrap_or_default();
            let mut free = !(self.taken.get(word)? | outside);
            if step == 0 {
                free &= u64::MAX << (start % 64);
            }
            if free != 0 {
                let offset = u32::try_from(word).ok()? * 64 + free.trailing_zeros();
                if offset < size {
                    return Some(Ipv4Addr::from(u32::from(self.subnet.network()) + offset));
                }
            }
        }
        None
    }

    fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        self.subnet
            .contains(&address)
            .then(|| u32::from(address) - u32::from(self.subnet.network()))
    }

    fn mark(&mut self, address: Ipv4Addr) {
        if let Some((word, bit)) = self.bit(address) {
            *word |= bit;
        }
    }

    /// False if the address is not ours to give, is taken, or the pod has another.
    fn insert(&mut self, address: Ipv4Addr, pod: PodId) -> bool {
        if self.holders.contains_key(&pod) {
            return false;
        }
        let Some((word, bit)) = self.bit(address) else { return false };
        if *word & bit != 0 {
            return false;
        }
        *word |= bit;
        self.holders.insert(pod, address);
        self.next = self.offset(address).unwrap_or(0) + 1;
        true
    }

    fn remove(&mut self, pod: &PodId, address: Ipv4Addr) {
        self.holders.remove(pod);
        if let Some((word, bit)) = self.bit(address) {
            *word &= !bit;
        }
    }

    fn bit(&mut self, address: Ipv4Addr) -> Option<(&mut u64, u64)> {
        let offset = self.offset(address)?;
        let word = self.taken.get_mut(usize::try_from(offset / 64).ok()?)?;
        Some((word, 1 << (offset % 64)))
    }
}

/// A bit for each address of the subnet that is not in the range.
fn outside(subnet: Ipv4Net, range: Ipv4Net, words: usize) -> Vec<u64> {
    let first = u32::from(subnet.network());
    let is_outside = |offset: u32| !range.contains(&Ipv4Addr::from(first.saturating_add(offset)));
    let word = |word: u32| {
        let bits = (0..64_u32).filter(|bit| is_outside(word * 64 + bit));
        bits.fold(0_u64, |all, bit| all | (1 << bit))
    };
    (0..u32::try_from(words).unwrap_or(0)).map(word).collect()
}

/// Number of addresses; a subnet is never wider than /8.
fn size(subnet: Ipv4Net) -> u32 {
    1 << (32 - u32::from(subnet.prefix_len()))
}

fn read_holder(path: &Path) -> Option<PodId> {
    let mut text = String::new();
    // An id has 64 digits: more is none.
    File::open(path).ok()?.take(65).read_to_string(&mut text).ok()?;
    PodId::parse(&text).ok()
}

fn set_aside(path: &Path) -> Result<()> {
    let aside = path.with_added_extension(DAMAGED);
    tracing::warn!(path = %aside.display(), "a damaged lease is set aside");
    std::fs::rename(path, aside).with_context(|| format!("set {} aside", path.display()))
}

fn drop_lease(path: &Path) {
    tracing::warn!(path = %path.display(), "dropping a lease that belongs to nobody");
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot drop the lease");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Leases {
        Leases::open(directory, &Pool::of("10.9.0.0/29".parse().unwrap())).unwrap()
    }

    fn pod() -> PodId {
        PodId::generate().unwrap()
    }

    #[test]
    fn an_address_just_given_back_is_the_last_to_be_given_again() {
        let directory = tempfile::tempdir().unwrap();
        let leases = open(directory.path());
        let first = pod();
        assert_eq!(leases.take(&first, None).unwrap(), Ipv4Addr::new(10, 9, 0, 2));
        leases.release(&first).unwrap();

        let given: Vec<u8> =
            (0..5).map(|_| leases.take(&pod(), None).unwrap().octets()[3]).collect();

        assert_eq!(given, [3, 4, 5, 6, 2]);
        assert_eq!(leases.take(&pod(), None).unwrap_err().kind(), Kind::Exhausted);
    }

    #[test]
    fn leases_and_their_turn_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (pod(), pod());
        let leases = open(directory.path());
        leases.take(&one, None).unwrap();
        let address = leases.take(&two, None).unwrap();
        leases.release(&one).unwrap();

        let leases = open(directory.path());

        assert_eq!(leases.all(), [(two.clone(), address)]);
        assert_eq!(leases.take(&two, None).unwrap(), address, "a retry gets the same address");
        assert_eq!(leases.take(&pod(), None).unwrap(), Ipv4Addr::new(10, 9, 0, 4));
    }

    #[test]
    fn a_damaged_lease_is_set_aside_and_its_address_free_unless_its_pod_lives() {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("10.9.0.2", "".to_owned()),
            ("10.9.0.3", "../../x".to_owned()),
            ("10.9.0.1", pod().to_string()),
            ("10.10.0.2", pod().to_string()),
            ("notes", "x".repeat(64)),
        ] {
            File::create(directory.path().join(name))
                .unwrap()
                .write_all(content.as_bytes())
                .unwrap();
        }

        let leases = open(directory.path());

        assert_eq!(leases.all(), []);
        let left = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap());
        let mut left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["10.9.0.2.damaged", "10.9.0.3.damaged"]);
        let living = pod();
        leases.restore(&living, Ipv4Addr::new(10, 9, 0, 2)).unwrap();
        leases.restore(&living, Ipv4Addr::new(10, 9, 0, 2)).unwrap();
        assert_eq!(leases.take(&pod(), None).unwrap(), Ipv4Addr::new(10, 9, 0, 3));
        drop(leases);

        let again = open(directory.path());
        assert_eq!(again.of(&living), Some(Ipv4Addr::new(10, 9, 0, 2)));
        assert_eq!(again.all().len(), 2);
    }

    #[test]
    fn an_address_written_by_another_process_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let leases = open(directory.path());
        File::create(directory.path().join("10.9.0.2")).unwrap();

        assert_eq!(leases.take(&pod(), None).unwrap(), Ipv4Addr::new(10, 9, 0, 3));
    }

    #[test]
    fn a_wish_is_granted_once_and_a_range_is_for_those_without_one() {
        let directory = tempfile::tempdir().unwrap();
        let pool = Pool {
            gateway: "10.9.0.254".parse().unwrap(),
            range: Some("10.9.0.128/30".parse().unwrap()),
            reserved: vec!["10.9.0.129".parse().unwrap()],
            ..Pool::of("10.9.0.0/24".parse().unwrap())
        };
        let leases = Leases::open(directory.path(), &pool).unwrap();
        let wish = |text: &str| leases.take(&pod(), Some(text.parse().unwrap()));

        assert_eq!(wish("10.9.0.1").unwrap(), Ipv4Addr::new(10, 9, 0, 1));
        for taken in ["10.9.0.1", "10.9.0.254", "10.9.0.129", "10.9.0.255", "10.10.0.1"] {
            assert_eq!(wish(taken).unwrap_err().chain(), "Address already in use", "{taken}");
        }
        let given: Vec<u8> =
            (0..3).map(|_| leases.take(&pod(), None).unwrap().octets()[3]).collect();
        assert_eq!(given, [128, 130, 131]);
        assert_eq!(leases.take(&pod(), None).unwrap_err().kind(), Kind::Exhausted);
    }

    #[test]
    fn giving_back_twice_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        let leases = open(directory.path());
        let holder = pod();
        leases.take(&holder, None).unwrap();
        leases.release(&holder).unwrap();
        leases.release(&holder).unwrap();
        assert_eq!(leases.of(&holder), None);
    }

    #[test]
    fn a_wide_subnet_gives_every_address_once() {
        let directory = tempfile::tempdir().unwrap();
        let leases =
            Leases::open(directory.path(), &Pool::of("10.9.0.0/24".parse().unwrap())).unwrap();
        let given: std::collections::BTreeSet<_> =
            (0..253).map(|_| leases.take(&pod(), None).unwrap()).collect();
        assert_eq!(given.len(), 253);
        assert_eq!(leases.take(&pod(), None).unwrap_err().kind(), Kind::Exhausted);
    }
}
