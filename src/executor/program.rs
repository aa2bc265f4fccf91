//! The last step: finding the program and becoming it.

use std::ffi::{CStr, CString};
use std::os::fd::AsRawFd;

use rustix::io::Errno;

use super::failure::{FailureKind, Fault};
use super::steps::Init;

/// For an environment without `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn execute(init: &mut Init<'_>) -> Result<(), Fault> {
    let process = init.process;
    let name = process.args.first().map(|name| &name[..]).unwrap_or_default();
    let args = c_strings(&process.args)?;
    let env = c_strings(&process.env)?;
    let path = process.env.iter().find_map(|entry| entry.strip_prefix(b"PATH="));

    let mut found = None;
    for candidate in candidates(name, path.unwrap_or(DEFAULT_PATH)) {
        let candidate = CString::new(candidate).map_err(|_| Fault::invalid("a NUL in a path"))?;
        let errno = become_program(init, &candidate, &args, &env);
        match errno {
            // Not here; a file that is not a program hides none later in the path.
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => found = Some((candidate, errno)),
            _ => {
                found = Some((candidate, errno));
                break;
            }
        }
    }
    let shown = String::from_utf8_lossy(name);
    match found {
        Some((candidate, errno)) => Err(Fault::new(
            FailureKind::CommandNotExecutable,
            format!("exec {:?}: {}", candidate.to_string_lossy(), std::io::Error::from(errno)),
        )
        .with_errno(errno)),
        None if name.contains(&b'/') => Err(Fault::new(
            FailureKind::CommandNotFound,
            format!("exec {shown:?}: no such file or directory"),
        )
        .with_errno(Errno::NOENT)),
        None => Err(Fault::new(
            FailureKind::CommandNotFound,
            format!("exec: {shown:?}: executable file not found in $PATH"),
        )
        .with_errno(Errno::NOENT)),
    }
}

/// Becomes a program of the host's, named by its path. Returns only when that did not work.
pub(super) fn become_host_program(
    args: &[serde_bytes::ByteBuf],
    env: &[serde_bytes::ByteBuf],
) -> Fault {
    let strings = c_strings(args).and_then(|args| Ok((args, c_strings(env)?)));
    let (args, env) = match strings {
        Ok(strings) => strings,
        Err(fault) => return fault,
    };
    let Some(path) = args.first() else { return Fault::invalid("no command") };
    match nix::unistd::execve(path, &args, &env) {
        Err(errno) => {
            Fault::from(Errno::from_raw_os_error(errno as i32)).about(path.to_string_lossy())
        }
    }
}

/// Returns only when it did not work.
fn become_program(init: &Init<'_>, path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    // The status and the way to the monitor close by themselves; all others are closed already.
    debug_assert!(init.status.as_ref().is_none_or(|status| status.as_raw_fd() > 2));
    match nix::unistd::execve(path, args, env) {
        Err(errno) => Errno::from_raw_os_error(errno as i32),
    }
}

/// The files to try, in order.
fn candidates(name: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    if name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    if name.is_empty() {
        return Vec::new();
    }
    path.split(|byte| *byte == b':')
        .map(|directory| {
            // An empty entry is the working directory.
            let directory = if directory.is_empty() { b"." } else { directory };
            [directory, b"/", name].concat()
        })
        .collect()
}

fn c_strings(strings: &[serde_bytes::ByteBuf]) -> Result<Vec<CString>, Fault> {
    strings
        .iter()
        .map(|string| CString::new(&string[..]).map_err(|_| Fault::invalid("a NUL in a string")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slash_is_not_searched() {
        assert_eq!(candidates(b"./run", b"/bin"), [b"./run".to_vec()]);
        assert_eq!(candidates(b"/bin/run", b"/usr/bin"), [b"/bin/run".to_vec()]);
    }

    #[test]
    fn a_bare_name_is_tried_in_each_directory_in_order() {
        let tried = candidates(b"run", b"/a::/b");
        assert_eq!(tried, [b"/a/run".to_vec(), b"./run".to_vec(), b"/b/run".to_vec()]);
        assert!(candidates(b"", b"/bin").is_empty());
    }
}
