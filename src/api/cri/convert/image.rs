//! Images: what a client asks for, and what it is told.

use std::collections::HashMap;

use cais_proto::runtime::v1::{
    AuthConfig, Image as CriImage, ImageFilter, ImageSpec, Int64Value, PullImageRequest,
};
use serde_json::{Value, json};

use super::check;
use crate::error::{Context, Result};
use crate::image::config::ImageConfig;
use crate::image::{CredentialFields, Credentials, Image};

/// The longest name a client may look up. Longer ones cannot exist, and would fill the log.
const LONGEST_REFERENCE: usize = 1024;

/// The name or id in a request about one image.
pub(crate) fn reference(message: Option<ImageSpec>) -> Result<String> {
    let ImageSpec {
        image,
        // Hints for choosing among variants, of which none is specified.
        annotations: _,
        // For people and policies; `image` is what counts.
        user_specified_image: _,
        // There is one handler, and one way to unpack.
        runtime_handler: _,
        // Only in answers.
        image_ref: _,
    } = check::required("image", message)?;
    let image = check::not_empty("image.image", image)?;
    if image.len() > LONGEST_REFERENCE {
        let why = format_args!("{} bytes, the longest is {LONGEST_REFERENCE}", image.len());
        return Err(check::refuse("image.image", why));
    }
    check::word("image.image", image)
}

/// `None` lets every image pass, and so does a filter that names none.
pub(crate) fn filter(message: Option<ImageFilter>) -> Result<Option<String>> {
    let ImageFilter { image } = message.unwrap_or_default();
    match image {
        Some(spec) if spec.image.is_empty() => Ok(None),
        Some(spec) => reference(Some(spec)).map(Some),
        None => Ok(None),
    }
}

pub(crate) fn pull(message: PullImageRequest) -> Result<(String, Credentials)> {
    let PullImageRequest {
        image,
        auth,
        // No policy goes by the pod: whoever may reach this socket may pull.
        sandbox_config: _,
    } = message;
    Ok((reference(image)?, auth.map_or_else(|| Ok(Credentials::anonymous()), credentials)?))
}

fn credentials(message: AuthConfig) -> Result<Credentials> {
    let AuthConfig { username, password, auth, server_address, identity_token, registry_token } =
        message;
    let fields = CredentialFields {
        username,
        password,
        auth,
        server_address,
        identity_token,
        registry_token,
    };
    Credentials::from_fields(fields).context("auth")
}

pub(crate) fn image(image: &Image) -> CriImage {
    let (uid, username) = user(&image.config.user);
    CriImage {
        id: image.id.to_string(),
        repo_tags: image.tags.clone(),
        repo_digests: image.digests.clone(),
        size: image.size,
        uid,
        username,
        spec: Some(ImageSpec {
            image: image.id.to_string(),
            annotations: image.annotations.clone().into_iter().collect(),
            user_specified_image: String::new(),
            runtime_handler: String::new(),
            image_ref: String::new(),
        }),
        pinned: image.pinned,
    }
}

/// The user of `USER[:GROUP]`, as a number or as a name. Without one it is root, and says so:
/// the kubelet's check against root needs one of the two.
fn user(user: &str) -> (Option<Int64Value>, String) {
    let name = user.split_once(':').map_or(user, |(name, _)| name);
    if name.is_empty() {
        return (Some(Int64Value { value: 0 }), String::new());
    }
    match name.parse::<u32>() {
        Ok(uid) => (Some(Int64Value { value: uid.into() }), String::new()),
        Err(_) => (None, name.to_owned()),
    }
}

/// The image's own configuration, in the form of the image specification.
pub(crate) fn info(image: &Image) -> HashMap<String, String> {
    let ImageConfig {
        entrypoint,
        cmd,
        env,
        working_dir,
        user,
        stop_signal,
        volumes,
        exposed_ports,
        labels,
        platform,
        created,
    } = &image.config;
    let set = |names: &[String]| -> Value {
        names.iter().map(|name| (name.clone(), json!({}))).collect::<serde_json::Map<_, _>>().into()
    };
    let info = json!({
        "manifest": image.manifest.to_string(),
        "imageSpec": {
            "created": created,
            "architecture": platform.architecture,
            "os": platform.os,
            "variant": platform.variant,
            "config": {
                "User": user,
                "ExposedPorts": set(exposed_ports),
                "Env": env,
                "Entrypoint": entrypoint,
                "Cmd": cmd,
                "Volumes": set(volumes),
                "WorkingDir": working_dir,
                "Labels": labels,
                "StopSignal": stop_signal,
            },
        },
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn spec(image: &str) -> Option<ImageSpec> {
        Some(ImageSpec { image: image.to_owned(), ..Default::default() })
    }

    #[test]
    fn an_image_must_be_named() {
        assert_eq!(reference(spec("busybox")).unwrap(), "busybox");
        for (message, why) in [
            (None, "image is missing".to_owned()),
            (spec(""), "image.image is empty".to_owned()),
            (spec("a b"), "image.image: \"a b\" holds white space".to_owned()),
            (spec(&"a".repeat(2000)), "image.image: 2000 bytes, the longest is 1024".to_owned()),
        ] {
            let error = reference(message).unwrap_err();
            assert_eq!((error.kind(), error.chain()), (Kind::InvalidArgument, why));
        }
    }

    #[test]
    fn an_empty_filter_lets_every_image_pass() {
        assert_eq!(filter(None).unwrap(), None);
        assert_eq!(filter(Some(ImageFilter::default())).unwrap(), None);
        assert_eq!(filter(Some(ImageFilter { image: spec("") })).unwrap(), None);
        let named = filter(Some(ImageFilter { image: spec("a") })).unwrap();
        assert_eq!(named.as_deref(), Some("a"));
    }

    #[test]
    fn the_user_of_an_image_is_a_number_or_a_name() {
        let uid = |value| (Some(Int64Value { value }), String::new());
        assert_eq!(user("1002"), uid(1002));
        assert_eq!(user("1003:1004"), uid(1003));
        assert_eq!(user(""), uid(0));
        assert_eq!(user(":5"), uid(0));
        assert_eq!(user("www-data:1004"), (None, "www-data".to_owned()));
    }

    #[test]
    fn every_kind_of_credentials_reaches_the_registry_client() {
        let with = |auth| {
            let message = PullImageRequest { image: spec("a"), auth, ..Default::default() };
            pull(message).map(|(_, credentials)| credentials)
        };
        let auth = AuthConfig::default;
        let by_password =
            with(Some(AuthConfig { username: "ann".into(), password: "secret".into(), ..auth() }))
                .unwrap();
        // base64 of `ann:secret`.
        let by_auth = with(Some(AuthConfig { auth: "YW5uOnNlY3JldA==".into(), ..auth() })).unwrap();
        let identity = with(Some(AuthConfig { identity_token: "t".into(), ..auth() })).unwrap();
        let registry = with(Some(AuthConfig { registry_token: "t".into(), ..auth() })).unwrap();
        let bound =
            with(Some(AuthConfig { server_address: "https://r.example/v2".into(), ..auth() }));

        assert_eq!(by_password, by_auth);
        assert_eq!(with(None).unwrap(), Credentials::anonymous());
        assert_eq!(with(Some(auth())).unwrap(), Credentials::anonymous());
        let all = [by_password, identity, registry, bound.unwrap(), Credentials::anonymous()];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one), "{one:?}");
        }
        let error = with(Some(AuthConfig { auth: "%".into(), ..auth() })).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.chain().starts_with("auth: "), "{}", error.chain());
    }
}
