//! `X-Registry-Auth`: who a client is to a registry.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;

use crate::api::docker::wire::image::AuthConfig;
use crate::error::{Error, Result};
use crate::image::{CredentialFields, Credentials};

const EITHER_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Anonymous without the header, and with one that says nothing (`e30=` is `{}`).
///
/// # Errors
/// `InvalidArgument` for what is not the base64, of either alphabet, of such JSON.
pub(crate) fn of(headers: &HeaderMap) -> Result<Credentials> {
    let Some(value) = headers.get("X-Registry-Auth") else { return Ok(Credentials::anonymous()) };
    // What is wrong in it is not repeated: it may be a password.
    let refuse = || Error::invalid("X-Registry-Auth is not the base64 of credentials as JSON");
    let text = value.to_str().map_err(|_| refuse())?.trim();
    if text.is_empty() {
        return Ok(Credentials::anonymous());
    }
    let bytes = decoder(text).decode(text).map_err(|_| refuse())?;
    from_config(serde_json::from_slice(&bytes).map_err(|_| refuse())?)
}

/// For either alphabet, with and without padding.
pub(super) fn decoder(text: &str) -> GeneralPurpose {
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, EITHER_PADDING)
}

pub(crate) fn from_config(config: AuthConfig) -> Result<Credentials> {
    let AuthConfig { username, password, auth, serveraddress, identitytoken, registrytoken } =
        config;
    Credentials::from_fields(CredentialFields {
        username,
        password,
        auth,
        server_address: serveraddress,
        identity_token: identitytoken,
        registry_token: registrytoken,
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(value: &str) -> Result<Credentials> {
        let headers = [("X-Registry-Auth", value)].map(|(name, value)| {
            let name: http::HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        });
        of(&HeaderMap::from_iter(headers))
    }

    #[test]
    fn credentials_come_in_both_alphabets_with_and_without_padding() {
        // `{"username":"a>","password":"?b"}`
        let expected = Credentials::from_fields(CredentialFields {
            username: "a>".into(),
            password: "?b".into(),
            ..Default::default()
        })
        .unwrap();
        for text in [
            "eyJ1c2VybmFtZSI6ImE-IiwicGFzc3dvcmQiOiI_YiJ9",
            "eyJ1c2VybmFtZSI6ImE+IiwicGFzc3dvcmQiOiI/YiJ9",
            "eyJ1c2VybmFtZSI6ImE-IiwicGFzc3dvcmQiOiI_YiIgfQ",
            "eyJ1c2VybmFtZSI6ImE-IiwicGFzc3dvcmQiOiI_YiIgfQ==",
        ] {
            assert_eq!(with(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn nothing_is_anonymous_and_nonsense_is_refused_without_being_repeated() {
        assert_eq!(of(&HeaderMap::new()).unwrap(), Credentials::anonymous());
        assert_eq!(with("e30=").unwrap(), Credentials::anonymous());
        assert_eq!(with("").unwrap(), Credentials::anonymous());
        // `{"username":null}`, as bollard writes what it was not given.
        assert_eq!(with("eyJ1c2VybmFtZSI6bnVsbH0=").unwrap(), Credentials::anonymous());
        for text in ["!", "c2VjcmV0"] {
            let error = with(text).unwrap_err().chain();
            assert!(!error.contains("c2VjcmV0") && !error.contains("secret"), "{error}");
        }
    }
}
