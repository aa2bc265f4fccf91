//! Members to files.
//!
//! Everything is made with `*at` calls on the descriptor of its parent directory, new
//! (`O_EXCL`, never following a link), and gets its attributes through the descriptor it was made
//! with. Few calls per file: open, write, times, close; owner and mode only where they differ
//! from what a new file has.

use std::io::BufRead;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags, makedev};
use rustix::io::Errno;

use super::attributes::{gid, set_mode, set_xattrs, space, timestamps, uid, write_all};
use super::borrow::Loans;
use super::sparse::Segment;
use super::stream::Decoded;
use super::tar::{Archive, Entry, Kind, Time, shown};
use super::tree::{
    self, Tree, is_whiteout, make_opaque, open_directory, replace_whiteout, stat_at,
};
use super::whiteout::{self, Names, Place, Target};
use super::{Limits, Unpacked};
use crate::error::{Context, Error, Kind as ErrorKind, Result};

const BLOCK: u64 = 4096;

/// Reads the whole archive and makes its files under `root`.
pub(super) fn apply(
    stream: Decoded,
    root: &Path,
    limits: Limits,
    names: Names,
) -> Result<Unpacked> {
    let mut archive = Archive::new(stream);
    let mut layer = Layer {
        tree: Tree::open(root)?,
        loans: Loans::default(),
        limits,
        directories: Vec::new(),
        has_setgid: false,
        describes_root: false,
        size: BLOCK,
        inodes: 1,
        bytes: 0,
    };
    let mut entries = 0;
    while let Some(entry) = archive.next()? {
        entries += 1;
        if entries > limits.entries {
            return Err(Error::new(
                ErrorKind::Exhausted,
                format!("the layer has more than {} members", limits.entries),
            ));
        }
        let target = whiteout::target(&entry.path, names)?;
        layer
            .add(&entry, target, &mut archive)
            .map_err(space)
            .with_context(|| format!("member {}", shown(&entry.path)))?;
    }
    let diff_id = archive.into_stream().finish()?;
    layer.set_directory_times()?;
    Ok(Unpacked {
        diff_id,
        size: layer.size,
        inodes: layer.inodes,
        describes_root: layer.describes_root,
        borrowed: layer.loans.into_borrowed(),
        implied: layer.tree.into_implied(),
    })
}

/// Where a member is to be made.
struct Slot<'a> {
    place: &'a Place<'a>,
    parent: &'a OwnedFd,
}

struct Layer {
    tree: Tree,
    loans: Loans,
    limits: Limits,
    /// Filling a directory changes its times, so they are set last.
    directories: Vec<(Vec<u8>, Time)>,
    /// New files in a directory with this bit take the group from it.
    has_setgid: bool,
    describes_root: bool,
    size: u64,
    inodes: u64,
    /// Of all files, holes included.
    bytes: u64,
}

impl Layer {
    fn add<R: BufRead>(
        &mut self,
        entry: &Entry,
        target: Target<'_>,
        archive: &mut Archive<R>,
    ) -> Result<()> {
        match target {
            Target::Ignored => Ok(()),
            Target::Root => self.root(entry),
            Target::Opaque(path) => self.opaque(&path),
            Target::Whiteout(place) => self.whiteout(&place),
            Target::Member(place) => {
                let parent = self.tree.parent(&place.parent)?;
                let slot = Slot { place: &place, parent: &parent };
                match &entry.kind {
                    Kind::Directory => self.directory(entry, &slot),
                    Kind::File { size } => self.file(entry, *size, &slot, archive),
                    Kind::Sparse { size, segments } => {
                        self.sparse(entry, (*size, segments), &slot, archive)
                    }
                    Kind::HardLink { target } => self.hard_link(target, &slot),
                    Kind::Symlink { .. }
                    | Kind::CharDevice { .. }
                    | Kind::BlockDevice { .. }
                    | Kind::Fifo => self.node(entry, &slot),
                }
            }
        }
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::invalid("the root of a layer is a directory"));
        }
        let root = self.tree.root();
        self.has_setgid |= entry.mode & 0o2000 != 0;
        rustix::fs::fchown(root, uid(entry), gid(entry)).context("chown")?;
        rustix::fs::fchmod(root, Mode::from_raw_mode(entry.mode)).context("chmod")?;
        set_xattrs(root, entry)?;
        self.directories.push((Vec::new(), entry.mtime));
        self.describes_root = true;
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, slot: &Slot<'_>) -> Result<()> {
        let Slot { place, parent } = *slot;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let is_new = match rustix::fs::mkdirat(parent, place.name, mode) {
            Ok(()) => true,
            Err(Errno::EXIST) => {
                let stat = stat_at(parent, place.name)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    false
                } else if is_whiteout(&stat) {
                    replace_whiteout(parent, place.name, mode)?;
                    true
                } else {
                    self.tree.displace(parent, place.name)?;
                    rustix::fs::mkdirat(parent, place.name, mode).context("mkdir")?;
                    true
                }
            }
            Err(errno) => return Err(errno).context("mkdir"),
        };
        let path = place.path();
        if is_new {
            self.count(BLOCK);
        } else {
            self.tree.described(&path);
        }
        if !is_new || entry.mode & 0o7000 != 0 || self.has_owner(entry) {
            let name = place.name;
            rustix::fs::chownat(parent, name, uid(entry), gid(entry), AtFlags::SYMLINK_NOFOLLOW)
                .context("chown")?;
            set_mode(parent, name, entry.mode)?;
        }
        if !entry.xattrs.is_empty() {
            set_xattrs(&open_directory(parent, place.name)?, entry)?;
        }
        self.has_setgid |= entry.mode & 0o2000 != 0;
        self.directories.push((path, entry.mtime));
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        size: u64,
        slot: &Slot<'_>,
        archive: &mut Archive<R>,
    ) -> Result<()> {
        self.spend(size)?;
        let file = self.create(entry, slot)?;
        archive.read(size, |bytes| write_all(&file, bytes))?;
        self.count(size.next_multiple_of(BLOCK));
        self.attributes(entry, &file)
    }

    fn sparse<R: BufRead>(
        &mut self,
        entry: &Entry,
        (size, segments): (u64, &[Segment]),
        slot: &Slot<'_>,
        archive: &mut Archive<R>,
    ) -> Result<()> {
        self.spend(size)?;
        let file = self.create(entry, slot)?;
        for segment in segments {
            let offset = rustix::fs::SeekFrom::Start(segment.offset);
            rustix::fs::seek(&file, offset).context("seek")?;
            archive.read(segment.length, |bytes| write_all(&file, bytes))?;
        }
        rustix::fs::ftruncate(&file, size).context("set the length")?;
        let data: u64 = segments.iter().map(|segment| segment.length).sum();
        self.count(data.next_multiple_of(BLOCK));
        self.attributes(entry, &file)
    }

    fn create(&mut self, entry: &Entry, slot: &Slot<'_>) -> Result<OwnedFd> {
        let Slot { place, parent } = *slot;
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | OFlags::LARGEFILE;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.make(slot, || rustix::fs::openat(parent, place.name, flags, mode))
    }

    /// Runs `call`, which makes a new name, and once more after making way for it.
    fn make<T>(&mut self, slot: &Slot<'_>, call: impl Fn() -> rustix::io::Result<T>) -> Result<T> {
        match call() {
            Err(Errno::EXIST) => {
                self.tree.displace(slot.parent, slot.place.name)?;
                self.tree.forget_below(&slot.place.path());
                call().context("create")
            }
            other => other.context("create"),
        }
    }

    fn attributes(&self, entry: &Entry, file: &OwnedFd) -> Result<()> {
        let owned = self.has_owner(entry);
        if owned {
            rustix::fs::fchown(file, uid(entry), gid(entry)).context("chown")?;
        }
        // After the owner: changing that takes the special bits away.
        if entry.mode & 0o7000 != 0 {
            rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).context("chmod")?;
        }
        set_xattrs(file, entry)?;
        rustix::fs::futimens(file, &timestamps(entry.mtime)).context("set times")
    }

    fn hard_link(&mut self, target: &[u8], slot: &Slot<'_>) -> Result<()> {
        let Slot { place, parent } = *slot;
        let missing = || {
            Error::invalid(format!("hard link to {}, which the layer takes away", shown(target)))
        };
        let to_directory = || Error::invalid("a hard link to a directory");
        let there = whiteout::place(target).context("hard link")?.ok_or_else(to_directory)?;
        if there == *place {
            return Err(Error::invalid("a hard link to itself"));
        }
        let Some(from) = self.tree.existing(&there.parent)? else {
            return self.borrow(&there, slot);
        };
        let stat = match rustix::fs::statat(&*from, there.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return self.borrow(&there, slot),
            Err(errno) => return Err(errno).context("stat"),
        };
        if is_whiteout(&stat) {
            return Err(missing());
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(to_directory());
        }
        self.make(slot, || {
            rustix::fs::linkat(&*from, there.name, parent, place.name, AtFlags::empty())
        })?;
        self.loans.linked(&from, there.name, place);
        Ok(())
    }

    /// The file is in a layer below, if anywhere.
    fn borrow(&mut self, there: &Place<'_>, slot: &Slot<'_>) -> Result<()> {
        match rustix::fs::statat(slot.parent, slot.place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => {
                self.tree.displace(slot.parent, slot.place.name)?;
                self.tree.forget_below(&slot.place.path());
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).context("stat"),
        }
        self.count(0);
        self.loans
            .borrow(self.tree.root(), there, slot.place, slot.parent)
            .context("note a hard link to a layer below")
    }

    /// What has no data: symbolic links, devices, fifos.
    fn node(&mut self, entry: &Entry, slot: &Slot<'_>) -> Result<()> {
        let Slot { place, parent } = *slot;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let mknod =
            |kind, device| move || rustix::fs::mknodat(parent, place.name, kind, mode, device);
        match &entry.kind {
            Kind::Symlink { target } => {
                if target.is_empty() || target.len() > 4095 || target.contains(&0) {
                    return Err(Error::invalid("the target of the symbolic link is malformed"));
                }
                let target = target.as_slice();
                self.make(slot, || rustix::fs::symlinkat(target, parent, place.name))?;
            }
            // overlayfs would take it for a whiteout.
            Kind::CharDevice { major: 0, minor: 0 } => {
                return Err(Error::invalid("the device 0:0 cannot be in a layer"));
            }
            Kind::CharDevice { major, minor } => {
                let device = makedev(*major, *minor);
                self.make(slot, mknod(FileType::CharacterDevice, device))?;
            }
            Kind::BlockDevice { major, minor } => {
                let device = makedev(*major, *minor);
                self.make(slot, mknod(FileType::BlockDevice, device))?;
            }
            Kind::Fifo => self.make(slot, mknod(FileType::Fifo, 0))?,
            Kind::File { .. } | Kind::Sparse { .. } | Kind::Directory | Kind::HardLink { .. } => {
                return Err(Error::internal("a member with data is not a node"));
            }
        }
        self.count(0);
        let is_link = matches!(entry.kind, Kind::Symlink { .. });
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if self.has_owner(entry) {
            rustix::fs::chownat(parent, place.name, uid(entry), gid(entry), flags)
                .context("chown")?;
        }
        if entry.mode & 0o7000 != 0 && !is_link {
            set_mode(parent, place.name, entry.mode)?;
        }
        rustix::fs::utimensat(parent, place.name, &timestamps(entry.mtime), flags)
            .context("set times")
    }

    fn whiteout(&mut self, place: &Place<'_>) -> Result<()> {
        let parent = self.tree.parent(&place.parent)?;
        let mode = Mode::empty();
        match rustix::fs::mknodat(&*parent, place.name, FileType::CharacterDevice, mode, 0) {
            Ok(()) => {
                self.count(0);
                Ok(())
            }
            // What this layer brings itself stays; only the layers below are hidden.
            Err(Errno::EXIST) => {
                let stat = stat_at(&parent, place.name)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    make_opaque(&parent, place.name)?;
                }
                Ok(())
            }
            Err(errno) => Err(errno).context("make a whiteout"),
        }
    }

    fn opaque(&mut self, path: &[u8]) -> Result<()> {
        // The directory itself, made if it was not described.
        let (above, name) = tree::split(path);
        self.tree.parent(path)?;
        if path.is_empty() {
            let root = self.tree.root();
            return rustix::fs::fsetxattr(
                root,
                "trusted.overlay.opaque",
                b"y",
                XattrFlags::empty(),
            )
            .context("make the root opaque");
        }
        let parent = self.tree.parent(above)?;
        make_opaque(&parent, name)
    }

    fn set_directory_times(&mut self) -> Result<()> {
        // Deepest last, so that neighbours share their parent's descriptor.
        let mut directories = std::mem::take(&mut self.directories);
        directories.sort_by(|a, b| a.0.cmp(&b.0));
        for (path, mtime) in directories {
            let times = timestamps(mtime);
            if path.is_empty() {
                rustix::fs::futimens(self.tree.root(), &times).context("set times")?;
                continue;
            }
            let (above, name) = tree::split(&path);
            // A later member may have taken its place.
            let Some(parent) = self.tree.existing(above)? else { continue };
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            match rustix::fs::utimensat(&*parent, name, &times, flags) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno).context("set times"),
            }
        }
        Ok(())
    }

    fn has_owner(&self, entry: &Entry) -> bool {
        entry.uid != 0 || entry.gid != 0 || self.has_setgid
    }

    fn spend(&mut self, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.bytes {
            return Err(Error::new(
                ErrorKind::Exhausted,
                format!("the layer's files are larger than {} bytes", self.limits.bytes),
            ));
        }
        Ok(())
    }

    fn count(&mut self, size: u64) {
        self.size += size;
        self.inodes += 1;
    }
}
