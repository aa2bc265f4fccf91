//! Mounts and devices of a container.

use std::collections::HashMap;

use cais_proto::runtime::v1::{
    CdiDevice, Device as CriDevice, ImageSpec, Mount as CriMount,
    MountPropagation as CriPropagation,
};

use super::check::{self, refuse, shown};
use super::security::{id_mappings, id_mappings_to_cri};
use crate::engine::container::config::{Device, Mount, MountPropagation, MountSource};
use crate::engine::container::record::ImageVolume;
use crate::error::Result;

const OPTIONS: [&str; 3] = ["noexec", "nodev", "nosuid"];

pub(super) fn mount(field: &str, message: CriMount) -> Result<Mount> {
    let CriMount {
        container_path,
        host_path,
        readonly,
        selinux_relabel,
        propagation,
        uid_mappings,
        gid_mappings,
        recursive_read_only,
        image,
        image_sub_path,
        mount_options,
    } = message;

    let propagation =
        match check::known(format_args!("{field}.propagation"), propagation, "MountPropagation")? {
            CriPropagation::PropagationPrivate => MountPropagation::Private,
            CriPropagation::PropagationHostToContainer => MountPropagation::HostToContainer,
            CriPropagation::PropagationBidirectional => MountPropagation::Bidirectional,
        };
    if recursive_read_only && !(readonly && propagation == MountPropagation::Private) {
        let why = "needs readonly and PROPAGATION_PRIVATE";
        return Err(refuse(format_args!("{field}.recursive_read_only"), why));
    }
    let source = match image {
        None => {
            if !image_sub_path.is_empty() {
                let why = "is for a mount with an image";
                return Err(refuse(format_args!("{field}.image_sub_path"), why));
            }
            MountSource::Host(check::absolute_path(format_args!("{field}.host_path"), host_path)?)
        }
        Some(image) => {
            if !host_path.is_empty() {
                let why = "a mount is of a host path or of an image, not of both";
                return Err(refuse(format_args!("{field}.host_path"), why));
            }
            // Layers are shared between containers: nobody may write to them.
            if !readonly {
                return Err(refuse(format_args!("{field}.readonly"), "an image is read-only"));
            }
            image_source(field, image, image_sub_path)?
        }
    };
    let uid_mappings = id_mappings(format_args!("{field}.uidMappings"), uid_mappings)?;
    let gid_mappings = id_mappings(format_args!("{field}.gidMappings"), gid_mappings)?;
    if uid_mappings.is_empty() != gid_mappings.is_empty() {
        return Err(refuse(format_args!("{field}.uidMappings"), "must come with gidMappings"));
    }
    for option in &mount_options {
        if !OPTIONS.contains(&option.as_str()) {
            let why = format_args!("{} is none of {}", shown(option), OPTIONS.join(", "));
            return Err(refuse(format_args!("{field}.mount_options"), why));
        }
    }
    Ok(Mount {
        container_path: check::absolute_path(
            format_args!("{field}.container_path"),
            container_path,
        )?,
        source,
        readonly,
        recursive_readonly: recursive_read_only,
        propagation,
        selinux_relabel,
        uid_mappings,
        gid_mappings,
        options: mount_options,
    })
}

fn image_source(field: &str, image: ImageSpec, sub_path: String) -> Result<MountSource> {
    let ImageSpec {
        image,
        // For pulls; the kubelet has pulled it already.
        annotations: _,
        user_specified_image,
        // There is one handler, and one way to unpack.
        runtime_handler: _,
        // What the image resolved to: ours to report, not theirs to ask for.
        image_ref: _,
    } = image;
    let image = check::not_empty(format_args!("{field}.image.image"), image)?;
    if !sub_path.is_empty() {
        // The prefix is the interface's, as for a path that is not in the image.
        let field = format_args!("ImageVolumeMountFailed: {field}.image_sub_path");
        check::relative_path(field, sub_path.clone())?;
    }
    Ok(MountSource::Image { image, user_specified_image, sub_path })
}

/// What the request had, so that a client can compare; of an image also which one that was.
pub(super) fn mount_to_cri(mount: &Mount, volumes: &[ImageVolume]) -> CriMount {
    let Mount {
        container_path,
        source,
        readonly,
        recursive_readonly,
        propagation,
        selinux_relabel,
        uid_mappings,
        gid_mappings,
        options,
    } = mount;
    let (host_path, image, image_sub_path) = match source {
        MountSource::Host(path) => (check::text(path), None, String::new()),
        MountSource::Tmpfs | MountSource::Volume(_) => (String::new(), None, String::new()),
        MountSource::Image { image, user_specified_image, sub_path } => {
            let volume = volumes.iter().find(|volume| volume.container_path == *container_path);
            let spec = ImageSpec {
                image: image.clone(),
                annotations: HashMap::new(),
                user_specified_image: user_specified_image.clone(),
                runtime_handler: String::new(),
                image_ref: volume.map(|volume| volume.image_id.clone()).unwrap_or_default(),
            };
            (String::new(), Some(spec), sub_path.clone())
        }
    };
    let propagation = match propagation {
        MountPropagation::Private => CriPropagation::PropagationPrivate,
        MountPropagation::HostToContainer => CriPropagation::PropagationHostToContainer,
        MountPropagation::Bidirectional => CriPropagation::PropagationBidirectional,
    };
    CriMount {
        container_path: check::text(container_path),
        host_path,
        readonly: *readonly,
        selinux_relabel: *selinux_relabel,
        propagation: propagation as i32,
        uid_mappings: id_mappings_to_cri(uid_mappings),
        gid_mappings: id_mappings_to_cri(gid_mappings),
        recursive_read_only: *recursive_readonly,
        image,
        image_sub_path,
        mount_options: options.clone(),
    }
}

pub(super) fn device(field: &str, message: CriDevice) -> Result<Device> {
    let CriDevice { container_path, host_path, permissions } = message;
    let is_set = !permissions.is_empty()
        && permissions.len() <= 3
        && permissions.chars().all(|letter| "rwm".contains(letter));
    if !is_set {
        let why = format_args!("{} is not a set of the letters r, w, m", shown(&permissions));
        return Err(refuse(format_args!("{field}.permissions"), why));
    }
    Ok(Device {
        container_path: check::absolute_path(
            format_args!("{field}.container_path"),
            container_path,
        )?,
        host_path: check::absolute_path(format_args!("{field}.host_path"), host_path)?,
        permissions,
    })
}

/// A fully qualified CDI device: `vendor.com/class=name`.
pub(super) fn cdi_device(field: &str, message: CdiDevice) -> Result<String> {
    let CdiDevice { name } = message;
    let part = |text: &str, marks: &[u8]| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        edge(text.bytes().next())
            && edge(text.bytes().last())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
    };
    let is_qualified = name.split_once('/').is_some_and(|(vendor, rest)| {
        rest.split_once('=').is_some_and(|(class, device)| {
            part(vendor, b"_-.") && part(class, b"_-") && part(device, b"_-.:")
        })
    });
    if is_qualified {
        Ok(name)
    } else {
        let why = format_args!("{} is not of the form vendor.com/class=name", shown(&name));
        Err(refuse(format_args!("{field}.name"), why))
    }
}

#[cfg(test)]
mod tests {
    use cais_proto::runtime::v1::IdMapping;

    use super::check::tests::refused;
    use super::*;

    fn bind() -> CriMount {
        CriMount {
            container_path: "/data".into(),
            host_path: "/srv/data".into(),
            readonly: true,
            selinux_relabel: true,
            recursive_read_only: true,
            uid_mappings: vec![IdMapping { host_id: 65536, container_id: 0, length: 65536 }],
            gid_mappings: vec![IdMapping { host_id: 65536, container_id: 0, length: 65536 }],
            mount_options: vec!["noexec".into(), "nosuid".into()],
            ..Default::default()
        }
    }

    fn image() -> CriMount {
        CriMount {
            container_path: "/model".into(),
            readonly: true,
            image: Some(ImageSpec { image: "sha256:ab".into(), ..Default::default() }),
            image_sub_path: "weights/v1".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_mount_is_reported_as_it_was_asked_for() {
        for message in [bind(), image()] {
            assert_eq!(mount_to_cri(&mount("f", message.clone()).unwrap(), &[]), message);
        }
        for value in 0..=2 {
            let message = CriMount { propagation: value, recursive_read_only: false, ..bind() };
            assert_eq!(mount_to_cri(&mount("f", message.clone()).unwrap(), &[]), message);
        }
    }

    #[test]
    fn a_mount_that_cannot_be_kept_to_is_refused_by_field() {
        type Break = fn(&mut CriMount);
        type Make = fn() -> CriMount;
        let cases: &[(Make, &str, Break)] = &[
            (bind, "container_path is empty", |m| m.container_path.clear()),
            (bind, "container_path: \"a\" is not an absolute", |m| m.container_path = "a".into()),
            (bind, "container_path: \"/a/../b\" must", |m| m.container_path = "/a/../b".into()),
            (bind, "host_path is empty", |m| m.host_path.clear()),
            (bind, "host_path: \"/a/../b\" must", |m| m.host_path = "/a/../b".into()),
            (bind, "propagation: 3 is not a MountPropagation", |m| m.propagation = 3),
            (bind, "recursive_read_only: needs", |m| m.readonly = false),
            (bind, "recursive_read_only: needs", |m| m.propagation = 1),
            (bind, "image_sub_path: is for", |m| m.image_sub_path = "a".into()),
            (bind, "uidMappings: must come", |m| m.gid_mappings.clear()),
            (bind, "mount_options: \"exec\" is none", |m| m.mount_options.push("exec".into())),
            (image, "host_path: a mount is of", |m| m.host_path = "/srv".into()),
            (image, "readonly: an image is", |m| m.readonly = false),
            (image, "image.image is empty", |m| m.image = Some(ImageSpec::default())),
            (image, "image_sub_path: \"../a\" must", |m| m.image_sub_path = "../a".into()),
            (image, "image_sub_path: \"/a\" is not", |m| m.image_sub_path = "/a".into()),
        ];
        for (good, expected, spoil) in cases {
            let mut message = good();
            spoil(&mut message);
            let chain = refused(mount("config.mounts[2]", message));
            let chain = chain.trim_start_matches("ImageVolumeMountFailed: ");
            assert!(chain.starts_with(&format!("config.mounts[2].{expected}")), "{chain}");
        }
    }

    #[test]
    fn device_permissions_are_a_set_of_three_letters() {
        let node = |permissions: &str| CriDevice {
            container_path: "/dev/a".into(),
            host_path: "/dev/b".into(),
            permissions: permissions.into(),
        };
        assert_eq!(device("f", node("mrw")).unwrap().permissions, "mrw");
        for permissions in ["", "x", "rwmr"] {
            assert!(refused(device("f", node(permissions))).starts_with("f.permissions"));
        }
    }

    #[test]
    fn a_cdi_device_is_fully_qualified() {
        let parse = |name: &str| cdi_device("f", CdiDevice { name: name.into() });
        assert_eq!(parse("vendor.com/gpu=0:1").unwrap(), "vendor.com/gpu=0:1");
        for name in ["", "gpu", "vendor.com/gpu", "/gpu=0", "v/=0", "v/gpu=", "v/../gpu=0"] {
            assert!(refused(parse(name)).starts_with("f.name"), "{name}");
        }
    }
}
