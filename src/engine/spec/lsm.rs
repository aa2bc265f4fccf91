//! AppArmor profile and SELinux label.

use super::{Draft, Input, field};
use crate::engine::pod::config::{AppArmorProfile, SelinuxLabel};
use crate::error::{Error, Result};

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let security = &input.config.security;
    if security.privileged {
        return Ok(());
    }
    if let Some(AppArmorProfile::Localhost(name)) = &security.apparmor {
        // A profile that was asked for and is not there must not be silently absent.
        let shown = field::shown(name);
        if !input.host.has_apparmor {
            return Err(Error::invalid(format!(
                "apparmor: profile {shown} is asked for, but AppArmor is not enabled on this node"
            )));
        }
        if !input.host.has_apparmor_profile(name) {
            return Err(Error::invalid(format!("apparmor: profile {shown} is not loaded")));
        }
        draft.process.set_apparmor_profile(Some(name.clone()));
    }
    if let Some(label) = &security.selinux
        && input.host.has_selinux
    {
        draft.process.set_selinux_label(Some(selinux_label(label)?));
    }
    Ok(())
}

/// `user:role:type:level`, with the usual container label where the request says nothing.
fn selinux_label(label: &SelinuxLabel) -> Result<String> {
    let SelinuxLabel { user, role, kind, level } = label;
    let mut parts = Vec::new();
    for (name, value, default) in [
        ("user", user, "system_u"),
        ("role", role, "system_r"),
        ("type", kind, "container_t"),
        ("level", level, "s0"),
    ] {
        let value = if value.is_empty() { default } else { value };
        let plain = |it: char| it.is_ascii_alphanumeric() || "_.,-".contains(it);
        if !value.chars().all(|it| plain(it) || (name == "level" && it == ':')) {
            let shown = field::shown(value);
            return Err(Error::invalid(format!("selinux_options.{name}: {shown} is not a label")));
        }
        parts.push(value);
    }
    Ok(parts.join(":"))
}
