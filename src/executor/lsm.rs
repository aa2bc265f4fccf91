//! The label that AppArmor or SELinux gives the program at `execve`.

use super::failure::{About, Fault};
use super::steps::Init;

/// A label that was asked for and cannot be set fails the start: it is part of the confinement.
pub(super) fn set_exec_label(init: &mut Init<'_>) -> Result<(), Fault> {
    let proc = init.around.proc;
    if let Some(profile) = &init.process.apparmor {
        let command = format!("exec {profile}");
        // The attribute of its own exists since Linux 5.8; the shared one belongs to the first LSM.
        let mut attribute = "self/attr/apparmor/exec";
        if proc.write(attribute, command.as_bytes()).is_err() {
            attribute = "self/attr/exec";
            proc.write(attribute, command.as_bytes()).about("apparmor")?;
        }
        let mut pending = Vec::new();
        proc.read(attribute, &mut pending).about("apparmor")?;
        expect_profile(&String::from_utf8_lossy(&pending), profile).about("apparmor")?;
    }
    if let Some(label) = &init.process.selinux {
        proc.write("self/attr/exec", label.as_bytes()).about("selinux")?;
    }
    Ok(())
}

/// Reads back what the kernel will do at `execve`: `NAME (MODE)`. It changes to that profile then or
/// refuses to execute.
fn expect_profile(pending: &str, wanted: &str) -> Result<(), Fault> {
    let text = pending.trim_end_matches(['\n', '\0']);
    let name = text.rsplit_once(" (").map_or(text, |(name, _)| name);
    if name == wanted {
        Ok(())
    } else {
        Err(Fault::internal(format!("the profile is {text:?} and should be {wanted:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_profile_than_the_one_asked_for_is_found() {
        assert!(expect_profile("cais-default (enforce)\n", "cais-default").is_ok());
        assert!(expect_profile("a (b) (complain)", "a (b)").is_ok());
        for other in ["", "unconfined\n", "cais (enforce)\n", "cais-default//x (enforce)"] {
            assert!(expect_profile(other, "cais-default").is_err(), "{other:?}");
        }
    }
}
