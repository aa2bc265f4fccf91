//! The environment: defaults, the image's, the request's, its devices'; the last one of a name wins.

use super::{Draft, Input, field, hostname};
use crate::error::{Error, Result};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// All names and values together.
const LARGEST: usize = 1 << 20;

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let mut all = Variables::default();
    all.set("PATH", PATH.as_bytes());
    if input.config.tty {
        all.set("TERM", b"xterm");
    }
    all.set("HOSTNAME", hostname(input.pod, input.host).as_bytes());
    for line in &input.image.env {
        // A name without a value is Docker's way to leave a variable to the client: nothing here.
        if let Some((name, value)) = line.split_once('=').filter(|(name, _)| !name.is_empty()) {
            field::no_nul("the image's environment", line.as_bytes())?;
            all.set(name, value.as_bytes());
        }
    }
    for (index, (name, value)) in input.config.env.iter().enumerate() {
        let named = format!("envs[{index}].key");
        if name.is_empty() || name.contains('=') {
            let shown = field::shown(name);
            return Err(Error::invalid(format!("{named}: {shown} is not a variable's name")));
        }
        field::no_nul(&named, name.as_bytes())?;
        field::no_nul(&format!("envs[{index}].value"), value)?;
        all.set(name, value);
    }
    for line in &input.cdi.env {
        if let Some((name, value)) = line.split_once('=') {
            all.set(name, value.as_bytes());
        }
    }
    if !all.has("HOME") {
        all.set("HOME", draft.home.as_deref().unwrap_or(b"/"));
    }
    if all.0.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() > LARGEST {
        return Err(Error::invalid(format!("envs: larger than {LARGEST} bytes together")));
    }
    draft.env = all.lines();
    let text = draft.env.iter().filter_map(|line| String::from_utf8(line.clone()).ok());
    draft.process.set_env(Some(text.collect()));
    Ok(())
}

/// Variables in the order in which they first appeared.
#[derive(Default)]
struct Variables(Vec<(String, Vec<u8>)>);

impl Variables {
    fn set(&mut self, name: &str, value: &[u8]) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value.to_vec(),
            None => self.0.push((name.to_owned(), value.to_vec())),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    fn lines(self) -> Vec<Vec<u8>> {
        let line = |(name, value): (String, Vec<u8>)| {
            let mut line = name.into_bytes();
            line.push(b'=');
            line.extend(value);
            line
        };
        self.0.into_iter().map(line).collect()
    }
}
