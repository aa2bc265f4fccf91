//! AppArmor: which profiles the kernel has, and the one of our own that containers get by default.
//!
//! The kernel takes policy in compiled form only, and the compiler is Debian's and everybody's
//! `apparmor_parser`: it is executed when the daemon starts and our profile is given to the kernel,
//! never on the way to a container whose profile is there. Profiles that requests name are the
//! operator's to load.

use std::fs::read_to_string;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Kind, Result};

/// The profile of containers that ask for the runtime's default, or for nothing.
pub(crate) const DEFAULT: &str = "cais-default";

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
const PARSERS: [&str; 3] =
    ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser", "/usr/bin/apparmor_parser"];
/// Pins what the rules mean: under a newer one `network` and others would say something else.
const ABI: &str = "/etc/apparmor.d/abi/3.0";

pub(crate) fn is_enabled() -> bool {
    read_to_string(ENABLED).is_ok_and(|text| text.trim() == "Y")
}

/// Whether the kernel has a profile of this name.
pub(crate) fn is_loaded(name: &str) -> Result<bool> {
    let list = read_to_string(LOADED).with_context(|| format!("read {LOADED}"))?;
    Ok(lists(&list, name))
}

/// Lines are `NAME (MODE)`; a name may hold spaces and parentheses itself.
fn lists(list: &str, name: &str) -> bool {
    list.lines().any(|line| line.rsplit_once(" (").is_some_and(|(known, _)| known == name))
}

/// Gives the kernel our profile, in place of one of an earlier version.
pub(crate) fn load_default() -> Result<()> {
    let Some(parser) = PARSERS.into_iter().find(|path| Path::new(path).exists()) else {
        let text =
            format!("apparmor: {DEFAULT} cannot be loaded: apparmor_parser is not installed");
        return Err(Error::new(Kind::WrongState, text));
    };
    let own = read_to_string("/proc/self/attr/current").unwrap_or_default();
    compile(parser, &default_profile(Path::new(ABI).exists(), label(&own)))
        .kind(Kind::WrongState)
        .with_context(|| format!("apparmor: load {DEFAULT}"))
}

fn compile(parser: &str, profile: &str) -> Result<()> {
    let mut child = Command::new(parser)
        // Read from the standard input, replace, and leave no compiled copy.
        .args(["--replace", "--skip-cache", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("execute {parser}"))?;
    // Dropped when written: the end of the input. One that ends early says why by itself.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(profile.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("wait for {parser}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::internal(format!("{parser}: {}: {}", output.status, said.trim())))
}

/// The profile a process is under, `None` for unconfined ones: from `NAME (MODE)`.
fn label(attribute: &str) -> Option<&str> {
    let text = attribute.trim_end_matches(['\n', '\0']);
    let name = text.rsplit_once(" (").map_or(text, |(name, _)| name);
    let is_plain = |it: char| it.is_ascii_graphic() && !"\"{}[]*?,".contains(it);
    (!name.is_empty() && name != "unconfined" && name.chars().all(is_plain)).then_some(name)
}

/// A second wall behind the read-only and masked paths, the capabilities and the filter: it still
/// stands where a pod was given `SYS_ADMIN` or a writable proc. `own` is the profile of the daemon,
/// and so of the monitors, who must be able to end a container.
fn default_profile(has_abi: bool, own: Option<&str>) -> String {
    let abi = if has_abi { "abi <abi/3.0>,\n" } else { "" };
    let own = own.map(|label| format!("  signal (receive) peer=\"{label}\",\n"));
    let own = own.unwrap_or_default();
    format!(
        r"{abi}
profile {DEFAULT} flags=(attach_disconnected,mediate_deleted) {{
  file,
  network,
  capability,
  umount,
  deny network alg,
  deny mount,

  signal (receive) peer=unconfined,
{own}  signal (send, receive) peer={DEFAULT},
  ptrace (trace, read, tracedby, readby) peer={DEFAULT},

  # proc: what belongs to a process may be written, what belongs to the machine may not.
  deny /proc/* w,
  deny /proc/[^0-9st]*/** wkl,
  deny /proc/{{scsi,sysvipc,tty}}/** wkl,
  deny /proc/{{kcore,kmem,mem,sysrq-trigger}} rwkl,
  # Of the kernel's settings only System V shared memory is a workload's business.
  deny /proc/sys/[^k]** wkl,
  deny /proc/sys/kernel/[^s]** wkl,
  deny /proc/sys/kernel/s[^h]** wkl,
  deny /proc/sys/kernel/sh[^m]** wkl,

  # sys: nothing but a cgroup of one's own.
  deny /sys/[^f]** wkl,
  deny /sys/f[^s]** wkl,
  deny /sys/fs/[^c]** wkl,
  deny /sys/fs/c[^g]** wkl,
  deny /sys/firmware/** rwkl,
  deny /sys/devices/virtual/powercap/** rwkl,
  deny /sys/kernel/security/** rwkl,
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_by_its_whole_name() {
        let list = "cais-default (enforce)\n/usr/bin/man (enforce)\nodd (name) (complain)\n";
        assert!(lists(list, "cais-default") && lists(list, "odd (name)"));
        assert!(!lists(list, "cais") && !lists(list, "man") && !lists(list, ""));
    }

    #[test]
    fn a_daemon_that_is_confined_itself_may_signal_its_containers() {
        assert_eq!(label("unconfined\n"), None);
        assert_eq!(label("/usr/local/bin/caisd (enforce)\n"), Some("/usr/local/bin/caisd"));
        assert_eq!(label("x\" peer=y (enforce)"), None);
        let with = default_profile(true, Some("caisd"));
        assert!(with.contains("signal (receive) peer=\"caisd\","), "{with}");
        assert!(with.starts_with("abi <abi/3.0>,"));
        assert!(!default_profile(false, None).contains("abi <abi/"));
    }
}
