//! AppArmor profile and SELinux label.

use super::{Draft, Host, Input, field};
use crate::apparmor;
use crate::engine::pod::config::{AppArmorProfile, SelinuxLabel};
use crate::error::{Error, Result};

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let security = &input.config.security;
    if security.privileged {
        return Ok(());
    }
    let profile = apparmor_profile(security.apparmor.as_ref(), input.host.has_apparmor)?;
    draft.process.set_apparmor_profile(profile);
    if let Some(label) = &security.selinux
        && input.host.has_selinux
    {
        draft.process.set_selinux_label(Some(selinux_label(label)?));
    }
    Ok(())
}

/// The profile to run under. One that was asked for and is not there must not be silently absent.
fn apparmor_profile(asked: Option<&AppArmorProfile>, has_apparmor: bool) -> Result<Option<String>> {
    match asked {
        Some(AppArmorProfile::Unconfined) => Ok(None),
        Some(AppArmorProfile::Localhost(name)) => {
            let shown = field::shown(name);
            if !has_apparmor {
                return Err(Error::invalid(format!(
                    "apparmor: profile {shown} is asked for, but AppArmor is not enabled on this \
                     node"
                )));
            }
            if !apparmor::is_loaded(name)? {
                return Err(Error::invalid(format!("apparmor: profile {shown} is not loaded")));
            }
            Ok(Some(name.clone()))
        }
        // Clients ask for the default of whatever the node has, and this one has none.
        Some(AppArmorProfile::RuntimeDefault) | None if !has_apparmor => Ok(None),
        Some(AppArmorProfile::RuntimeDefault) => {
            load_default_if_missing().map(|()| Some(apparmor::DEFAULT.to_owned()))
        }
        None => match load_default_if_missing() {
            Ok(()) => Ok(Some(apparmor::DEFAULT.to_owned())),
            Err(error) => {
                tracing::warn!("a container runs without an AppArmor profile: {}", error.chain());
                Ok(None)
            }
        },
    }
}

/// When the daemon starts: the profile may be an older version's.
pub(crate) fn load_default_profile(host: &Host) {
    if host.has_apparmor
        && let Err(error) = apparmor::load_default()
    {
        tracing::warn!("containers run without the default profile: {}", error.chain());
    }
}

/// It is loaded when the daemon starts; a reload of the machine's policy may have dropped it.
fn load_default_if_missing() -> Result<()> {
    if apparmor::is_loaded(apparmor::DEFAULT)? { Ok(()) } else { apparmor::load_default() }
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
