//! The variables that words are expanded with.

use std::collections::HashMap;

/// What a stage has whose image says nothing of it.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Gives variables of an image, `NAME=value` each, a PATH if they have none. Every stage has one, in its words and in its image's
/// configuration; on Windows it is the system's own.
pub fn add_path(variables: &mut Vec<String>, os: &str) {
    if os != "windows" && !variables.iter().any(|it| it.starts_with("PATH=")) {
        variables.push(DEFAULT_PATH.to_owned());
    }
}

/// Variables by name, in the order in which they were last set: the latest is last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env {
    values: HashMap<String, (u64, String)>,
    settings: u64,
}

impl Env {
    pub fn new() -> Self {
        Self::default()
    }

    /// From `NAME=value` texts, the form of an image's configuration. A text without `=` is a name with an empty value.
    pub fn from_pairs<S: AsRef<str>>(pairs: impl IntoIterator<Item = S>) -> Self {
        let mut env = Self::new();
        for pair in pairs {
            let (name, value) = pair.as_ref().split_once('=').unwrap_or((pair.as_ref(), ""));
            env.set(name, value);
        }
        env
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| value.as_str())
    }

    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.settings += 1;
        self.values.insert(name.into(), (self.settings, value.into()));
    }

    pub fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub fn names(&self) -> Vec<&str> {
        self.pairs().into_iter().map(|(name, _)| name).collect()
    }

    pub fn pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs: Vec<_> = self.values.iter().collect();
        pairs.sort_unstable_by_key(|(_, (setting, _))| *setting);
        pairs.into_iter().map(|(name, (_, value))| (name.as_str(), value.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_set_again_comes_last() {
        let mut env = Env::from_pairs(["A=1", "B", "C=x=y"]);
        env.set("A", "2");
        assert_eq!(env.pairs(), [("B", ""), ("C", "x=y"), ("A", "2")]);
    }
}
