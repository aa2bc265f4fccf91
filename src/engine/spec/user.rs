//! Who the process is, looked up in the image's own user database.
//!
//! The files are foreign: they are opened below the root's descriptor, must be regular and of
//! bounded size, and a line that makes no sense is as good as absent. A number in a request is a
//! number, never a name.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use super::{Draft, Input, field};
use crate::engine::container::config::{Config, GroupsPolicy, UserRequest};
use crate::error::{Context, Error, Result};
use crate::executor::plan::User;
use crate::image::config::ImageConfig;

const LARGEST: usize = 1 << 20;
/// What `setgroups` takes.
const GROUPS_MAX: usize = 65_536;

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let (mut user, account) = resolve(input.config, input.image, input.rootfs)?;
    // 0 stands for none: a device does not make its user a member of root's group.
    for gid in input.cdi.additional_gids.iter().filter(|gid| **gid != 0) {
        let gid = real_id("CDI additionalGids", *gid)?;
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    draft.home = account.map(|account| account.home).filter(|home| home.starts_with(b"/"));
    let mut spec = oci_spec::runtime::User::default();
    spec.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(user.groups));
    draft.process.set_user(spec);
    Ok(())
}

/// The user that `USER[:GROUP]` names in the database below this root.
pub(crate) fn user_in(spec: &str, rootfs: BorrowedFd<'_>) -> Result<User> {
    let (accounts, groups) = (accounts(rootfs)?, groups(rootfs)?);
    let (user, group) = split("user", spec)?;
    let chosen = choose(&user, group.as_ref(), (&accounts, &groups))?;
    let mut all = vec![chosen.gid];
    if let (Some(account), None) = (chosen.account, &group) {
        let member = |group: &&Group| group.members.contains(&account.name);
        all.extend(groups.iter().filter(member).map(|group| group.gid));
        all.dedup();
    }
    Ok(User { uid: chosen.uid, gid: chosen.gid, groups: all, umask: None })
}

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: Vec<u8>,
}

/// A line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// A user or group as written: all digits is a number.
enum Who<'a> {
    Number(u32),
    Name(&'a str),
}

/// The process's user and the image's account of it, if there is one.
fn resolve(
    config: &Config,
    image: &ImageConfig,
    rootfs: BorrowedFd<'_>,
) -> Result<(User, Option<Account>)> {
    let security = &config.security;
    let accounts = accounts(rootfs)?;
    let groups = groups(rootfs)?;
    let (user, group) = match &security.user {
        UserRequest::Uid(uid) => (Who::Number(real_id("run_as_user", *uid)?), None),
        UserRequest::Name(name) => (who("run_as_username", name)?, None),
        UserRequest::Spec(spec) => split("user", spec)?,
        UserRequest::Image if security.run_as_group.is_some() => {
            return Err(Error::invalid("run_as_group: given without run_as_user"));
        }
        UserRequest::Image => split("the image's user", &image.user)?,
    };
    let chosen = choose(&user, group.as_ref(), (&accounts, &groups))?;
    let (uid, account) = (chosen.uid, chosen.account);
    let gid = match security.run_as_group {
        Some(gid) => real_id("run_as_group", gid)?,
        None => chosen.gid,
    };
    // The primary one too: a file that denies its group must deny this process.
    let mut all = vec![gid];
    // A group written by hand replaces those of the database, as with su -g; so Docker has it.
    if let (GroupsPolicy::Merge, Some(account), None) = (security.groups_policy, account, &group) {
        let member = |group: &&Group| group.members.contains(&account.name);
        all.extend(groups.iter().filter(member).map(|group| group.gid));
    }
    for gid in &security.supplemental_groups {
        all.push(real_id("supplemental_groups", *gid)?);
    }
    for name in &security.supplemental_group_names {
        let found = groups.iter().find(|group| group.name == *name);
        let found = found.ok_or_else(|| {
            Error::invalid(format!("Unable to find group {}", field::shown(name)))
        })?;
        all.push(found.gid);
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|gid| seen.insert(*gid));
    if all.len() > GROUPS_MAX {
        return Err(Error::invalid(format!("supplemental_groups: more than {GROUPS_MAX}")));
    }
    Ok((User { uid, gid, groups: all, umask: None }, account.cloned()))
}

struct Chosen<'a> {
    uid: u32,
    /// The group's that was named, or the account's own.
    gid: u32,
    account: Option<&'a Account>,
}

fn choose<'a>(
    user: &Who<'_>,
    group: Option<&Who<'_>>,
    (accounts, groups): (&'a [Account], &[Group]),
) -> Result<Chosen<'a>> {
    let (uid, account) = match user {
        Who::Number(uid) => (*uid, accounts.iter().find(|account| account.uid == *uid)),
        Who::Name(name) => {
            let found = accounts.iter().find(|account| account.name == *name).ok_or_else(|| {
                let shown = field::shown(name);
                Error::invalid(format!("no user {shown} in the image's /etc/passwd"))
            })?;
            (found.uid, Some(found))
        }
    };
    let gid = match group {
        Some(Who::Number(gid)) => *gid,
        Some(Who::Name(name)) => {
            let found = groups.iter().find(|group| group.name == *name);
            found.map(|group| group.gid).ok_or_else(|| {
                let shown = field::shown(name);
                Error::invalid(format!("no group {shown} in the image's /etc/group"))
            })?
        }
        None => account.map_or(0, |account| account.gid),
    };
    Ok(Chosen { uid, gid, account })
}

/// `USER[:GROUP]`; nothing at all is root.
fn split<'a>(field: &str, spec: &'a str) -> Result<(Who<'a>, Option<Who<'a>>)> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    let user = if user.is_empty() { Who::Number(0) } else { who(field, user)? };
    let group = group.filter(|group| !group.is_empty()).map(|group| who(field, group));
    Ok((user, group.transpose()?))
}

fn who<'a>(field: &str, text: &'a str) -> Result<Who<'a>> {
    let signed = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !signed.is_empty() && signed.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.parse().ok().filter(|_| signed == text);
        let number: u32 = number.ok_or_else(|| {
            Error::invalid(format!("{field}: {} is not a user or group id", field::shown(text)))
        })?;
        return real_id(field, number).map(Who::Number);
    }
    if text.is_empty() || text.chars().any(|it| it.is_control() || it.is_whitespace() || it == ':')
    {
        return Err(Error::invalid(format!("{field}: {} is not a name", field::shown(text))));
    }
    Ok(Who::Name(text))
}

/// The largest number means "nobody in particular" to the kernel.
fn real_id(field: &str, id: u32) -> Result<u32> {
    if id == u32::MAX {
        return Err(Error::invalid(format!("{field}: {id} is not a user or group id")));
    }
    Ok(id)
}

/// True when the image's database has a group of this number.
pub(super) fn has_group(rootfs: BorrowedFd<'_>, gid: u32) -> Result<bool> {
    Ok(groups(rootfs)?.iter().any(|group| group.gid == gid))
}

fn accounts(rootfs: BorrowedFd<'_>) -> Result<Vec<Account>> {
    Ok(parse_accounts(&read(rootfs, "etc/passwd")?))
}

fn groups(rootfs: BorrowedFd<'_>) -> Result<Vec<Group>> {
    Ok(parse_groups(&read(rootfs, "etc/group")?))
}

/// `NAME:PASSWORD:UID:GID:COMMENT:HOME:SHELL`
fn parse_accounts(bytes: &[u8]) -> Vec<Account> {
    lines(bytes)
        .filter_map(|fields| {
            let [name, _, uid, gid, rest @ ..] = fields.as_slice() else { return None };
            let home = rest.get(1).copied().unwrap_or_default();
            Some(Account { name: text(name)?, uid: id(uid)?, gid: id(gid)?, home: home.to_vec() })
        })
        .collect()
}

/// `NAME:PASSWORD:GID:MEMBER,MEMBER`
fn parse_groups(bytes: &[u8]) -> Vec<Group> {
    lines(bytes)
        .filter_map(|fields| {
            let [name, _, gid, rest @ ..] = fields.as_slice() else { return None };
            let members = text(rest.first().copied().unwrap_or_default())?;
            let members = members.split(',').filter(|it| !it.is_empty()).map(str::to_owned);
            Some(Group { name: text(name)?, gid: id(gid)?, members: members.collect() })
        })
        .collect()
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .filter(|line| line.iter().all(|byte| *byte >= 0x20))
        .map(|line| line.split(|byte| *byte == b':').collect())
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn id(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes).ok()?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

/// A file of the image; empty when there is none.
fn read(rootfs: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>> {
    let what = || format!("read the image's /{path}");
    // Not blocking: it might be a FIFO.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(rootfs, path, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(Errno::LOOP | Errno::ACCESS | Errno::NXIO) => {
            return Err(Error::invalid(format!("the image's /{path} cannot be opened")));
        }
        Err(errno) => return Err(errno).with_context(what),
    };
    let stat = fstat(&file).with_context(what)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::invalid(format!("the image's /{path} is not a regular file")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(LARGEST) + 1);
    loop {
        bytes.reserve(4096);
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() > LARGEST => {
                return Err(Error::invalid(format!("the image's /{path} is larger than 1 MiB")));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).with_context(what),
        }
    }
}
