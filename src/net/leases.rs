//! Which pod holds which address: one file per address, named by it, holding the pod's id.
//!
//! ```text
//!   STATE/leases/10.88.0.2     "4f0c…"     created with O_EXCL, removed when given back
//! ```
//!
//! The directory is the truth and outlives the daemon; a set in memory, rebuilt at start, makes
//! taking an address quick. Addresses are handed out in turn, so that one just given back rests as
//! long as the subnet allows: a client's stale connection then meets nobody instead of a stranger.
//! Both families are counted alike, as numbers from the first address of the subnet on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::error::{Context, Error, Kind, Result};
use crate::id::PodId;

/// Ending of what is kept for somebody to look at.
pub(super) const DAMAGED: &str = "damaged";

/// An address of one family.
pub(crate) trait Address: Copy + Eq + Ord + Debug + Display + FromStr {
    type Net: Copy + Eq + Debug + Display;

    /// Of subnets that addresses can be given from.
    const PREFIXES: RangeInclusive<u8>;

    fn number(self) -> u128;

    /// Of a number that fits.
    fn of(number: u128) -> Self;

    /// Its first and last address, and the length of its prefix.
    fn bounds(net: Self::Net) -> (Self, Self, u8);

    /// Whether the last address of a subnet means all of it.
    const HAS_BROADCAST: bool;
}

impl Address for Ipv4Addr {
    type Net = Ipv4Net;

    const PREFIXES: RangeInclusive<u8> = 8..=30;
    const HAS_BROADCAST: bool = true;

    fn number(self) -> u128 {
        self.to_bits().into()
    }

    fn of(number: u128) -> Self {
        Self::from_bits(u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn bounds(net: Ipv4Net) -> (Self, Self, u8) {
        (net.network(), net.broadcast(), net.prefix_len())
    }
}

impl Address for Ipv6Addr {
    type Net = Ipv6Net;

    const PREFIXES: RangeInclusive<u8> = 16..=126;
    const HAS_BROADCAST: bool = false;

    fn number(self) -> u128 {
        self.to_bits()
    }

    fn of(number: u128) -> Self {
        Self::from_bits(number)
    }

    fn bounds(net: Ipv6Net) -> (Self, Self, u8) {
        (net.network(), net.broadcast(), net.prefix_len())
    }
}

/// The addresses there are to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool<A: Address = Ipv4Addr> {
    pub(crate) subnet: A::Net,
    /// The bridge's own.
    pub(crate) gateway: A,
    /// What is given to those who want none in particular; `None`: all of the subnet.
    pub(crate) range: Option<A::Net>,
    /// Given to nobody.
    pub(crate) reserved: Vec<A>,
}

impl<A: Address> Pool<A> {
    /// All of the subnet; its first address is the gateway's.
    pub(crate) fn of(subnet: A::Net) -> Self {
        Self { subnet, gateway: gateway(subnet), range: None, reserved: Vec::new() }
    }
}

/// The first address of the subnet: the bridge's own, and the pods' gateway.
pub(crate) fn gateway<A: Address>(subnet: A::Net) -> A {
    let (first, last, _) = A::bounds(subnet);
    A::of((first.number() + 1).min(last.number()))
}

/// The addresses of one subnet.
#[derive(Debug)]
pub(crate) struct Leases<A: Address = Ipv4Addr> {
    directory: PathBuf,
    table: Mutex<Table<A>>,
}

#[derive(Debug)]
struct Table<A: Address> {
    subnet: A::Net,
    first: A,
    last: A,
    /// Both ends of what those get who want none in particular.
    range: (A, A),
    taken: BTreeSet<A>,
    holders: BTreeMap<PodId, A>,
    /// Where the search for the next address begins.
    next: A,
}

impl<A: Address> Leases<A> {
    /// Opens the directory, making it if needed, and reads the leases in it. One that is damaged is
    /// set aside, one that cannot belong to anybody (outside the subnet, of a pod that has another)
    /// is dropped.
    pub(crate) fn open(directory: &Path, pool: &Pool<A>) -> Result<Self> {
        check_prefix::<A>(pool.subnet)?;
        let describe = || format!("open the lease directory {}", directory.display());
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(describe)?;

        let mut table = Table::empty(pool);
        let mut newest: Option<(SystemTime, A)> = None;
        for entry in std::fs::read_dir(directory).with_context(describe)? {
            let entry = entry.with_context(describe)?;
            let name = entry.file_name();
            if Path::new(&name).extension().is_some_and(|extension| extension == DAMAGED) {
                continue;
            }
            let Some(address) = name.to_str().and_then(|name| name.parse::<A>().ok()) else {
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
            table.next = table.after(address);
        }
        Ok(Self { directory: directory.to_owned(), table: Mutex::new(table) })
    }

    /// Gives the pod the address that it wants, any without a wish, or the one it holds already.
    ///
    /// # Errors
    /// `AlreadyExists` for a wish that another pod has, `Exhausted` when none is free.
    pub(crate) fn take(&self, pod: &PodId, wanted: Option<A>) -> Result<A> {
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
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    table.taken.insert(address);
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("write the lease of {address}"));
                }
            }
        }
    }

    /// Gives a living pod back the lease that it had: the file may have been damaged.
    pub(crate) fn restore(&self, pod: &PodId, address: A) -> Result<()> {
        let mut table = self.lock();
        if table.insert(address, pod.clone()) {
            self.write(address, pod)
                .with_context(|| format!("write the lease of {address} again"))?;
        }
        Ok(())
    }

    /// The address the pod holds.
    pub(crate) fn of(&self, pod: &PodId) -> Option<A> {
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
    pub(crate) fn all(&self) -> Vec<(PodId, A)> {
        self.lock().holders.iter().map(|(pod, address)| (pod.clone(), *address)).collect()
    }

    fn write(&self, address: A, pod: &PodId) -> std::io::Result<()> {
        let path = self.path(address);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(pod.as_str().as_bytes()).inspect_err(|_| drop_lease(&path))
    }

    fn path(&self, address: A) -> PathBuf {
        self.directory.join(address.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Table<A>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Address> Table<A> {
    fn empty(pool: &Pool<A>) -> Self {
        let (first, last, _) = A::bounds(pool.subnet);
        let range = pool.range.map_or((first, last), |range| {
            let (low, high, _) = A::bounds(range);
            (low.max(first), high.min(last))
        });
        let mut taken: BTreeSet<A> = pool.reserved.iter().copied().collect();
        taken.extend([first, pool.gateway]);
        taken.extend(A::HAS_BROADCAST.then_some(last));
        let holders = BTreeMap::new();
        Self { subnet: pool.subnet, first, last, range, taken, holders, next: range.0 }
    }

    /// Whether the address is one of the subnet's that nobody has.
    fn is_free(&self, address: A) -> bool {
        (self.first..=self.last).contains(&address) && !self.taken.contains(&address)
    }

    /// The first free address at or after `next`, wrapping once.
    fn free(&self) -> Option<A> {
        let (low, high) = self.range;
        let start = if (low..=high).contains(&self.next) { self.next } else { low };
        self.gap(start, high).or_else(|| self.gap(low, start))
    }

    /// The first free address between these, both included.
    fn gap(&self, from: A, to: A) -> Option<A> {
        let mut at = from.number();
        for taken in self.taken.range(from..=to) {
            if taken.number() != at {
                break;
            }
            at = at.checked_add(1)?;
        }
        (at <= to.number()).then(|| A::of(at))
    }

    fn after(&self, address: A) -> A {
        if address < self.last { A::of(address.number() + 1) } else { self.first }
    }

    /// False if the address is not ours to give, is taken, or the pod has another.
    fn insert(&mut self, address: A, pod: PodId) -> bool {
        if self.holders.contains_key(&pod) || !self.is_free(address) {
            return false;
        }
        self.taken.insert(address);
        self.holders.insert(pod, address);
        self.next = self.after(address);
        true
    }

    fn remove(&mut self, pod: &PodId, address: A) {
        self.holders.remove(pod);
        self.taken.remove(&address);
    }
}

/// # Errors
/// For a subnet from which no address can be given.
pub(crate) fn check_prefix<A: Address>(subnet: A::Net) -> Result<()> {
    let (_, _, prefix) = A::bounds(subnet);
    if A::PREFIXES.contains(&prefix) {
        return Ok(());
    }
    let (widest, narrowest) = (A::PREFIXES.start(), A::PREFIXES.end());
    Err(Error::invalid(format!("subnet {subnet} must be between /{widest} and /{narrowest}")))
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
        Leases::open(directory, &Pool::<Ipv4Addr>::of("10.9.0.0/29".parse().unwrap())).unwrap()
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
        let pool: Pool = Pool {
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
        let pool = Pool::<Ipv4Addr>::of("10.9.0.0/24".parse().unwrap());
        let leases = Leases::open(directory.path(), &pool).unwrap();
        let given: BTreeSet<_> = (0..253).map(|_| leases.take(&pod(), None).unwrap()).collect();
        assert_eq!(given.len(), 253);
        assert_eq!(leases.take(&pod(), None).unwrap_err().kind(), Kind::Exhausted);
    }

    #[test]
    fn addresses_of_version_6_are_given_from_the_widest_subnet_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let pool = Pool::<Ipv6Addr>::of("fd00:1::/64".parse().unwrap());
        let leases = Leases::open(directory.path(), &pool).unwrap();
        let (one, two) = (pod(), pod());
        assert_eq!(leases.take(&one, None).unwrap().to_string(), "fd00:1::2");
        let last = "fd00:1::ffff:ffff:ffff:ffff".parse().unwrap();
        assert_eq!(leases.take(&two, Some(last)).unwrap(), last);

        let leases = Leases::open(directory.path(), &pool).unwrap();

        assert_eq!(leases.of(&two), Some(last));
        let next: Vec<String> =
            (0..2).map(|_| leases.take(&pod(), None).unwrap().to_string()).collect();
        assert!(
            next.iter().all(|it| !["fd00:1::", "fd00:1::1", "fd00:1::2"].contains(&&**it)),
            "{next:?}"
        );
        leases.release(&one).unwrap();
        let again = Leases::open(directory.path(), &pool).unwrap();
        assert_eq!(again.of(&one), None);
    }
}
