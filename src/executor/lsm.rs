//! The label that AppArmor or SELinux gives the program at `execve`.

use super::failure::{About, Fault};
use super::steps::Init;

/// A label that was asked for and cannot be set fails the start: it is part of the confinement.
pub(super) fn set_exec_label(init: &mut Init<'_>) -> Result<(), Fault> {
    let proc = init.around.proc;
    if let Some(profile) = &init.process.apparmor {
        let command = format!("exec {profile}");
        // The attribute of its own exists since Linux 5.8; the shared one belongs to the first LSM.
        if proc.write("self/attr/apparmor/exec", command.as_bytes()).is_err() {
            proc.write("self/attr/exec", command.as_bytes()).about("apparmor")?;
        }
    }
    if let Some(label) = &init.process.selinux {
        proc.write("self/attr/exec", label.as_bytes()).about("selinux")?;
    }
    Ok(())
}
