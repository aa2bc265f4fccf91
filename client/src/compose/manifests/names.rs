//! Names and labels as Kubernetes takes them.

use std::collections::BTreeMap;

use super::Conversion;
use crate::error::{Failure, Result};

/// The longest name of a Service, and of a label's value.
const LONGEST: usize = 63;

/// A text as a label of DNS (RFC 1035): small letters, digits and hyphens, a letter first.
pub(super) fn label(text: &str) -> String {
    let mut label: String = text
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { '-' })
        .collect();
    if !label.starts_with(|it: char| it.is_ascii_lowercase()) {
        label.insert_str(0, "x-");
    }
    label.truncate(LONGEST);
    label.trim_end_matches('-').to_owned()
}

/// Whether it may be the key of an annotation: `[PREFIX/]NAME`.
pub(super) fn is_annotation(key: &str) -> bool {
    let is_end = |it: Option<char>| it.is_some_and(|it| it.is_ascii_alphanumeric());
    let is_part = |part: &str, longest: usize, others: &str| {
        part.len() <= longest
            && is_end(part.chars().next())
            && is_end(part.chars().last())
            && part.chars().all(|it| it.is_ascii_alphanumeric() || others.contains(it))
    };
    match key.split_once('/') {
        Some((prefix, name)) => {
            is_part(prefix, 253, "-.")
                && !prefix.contains(|it: char| it.is_ascii_uppercase())
                && is_part(name, LONGEST, "-_.")
        }
        None => is_part(key, LONGEST, "-_."),
    }
}

impl Conversion<'_> {
    /// Others find a service by its name: that it becomes another one must be known, and two cannot have one.
    pub(super) fn check_names(&self) -> Result<()> {
        for kind in ["services", "volumes", "secrets", "configs"] {
            let mut taken: BTreeMap<String, &str> = BTreeMap::new();
            for (name, _) in self.project.resources(kind) {
                let own = label(name);
                if own != *name && kind == "services" {
                    self.tell(format!("services.{name}: its name in Kubernetes is {own}"));
                }
                if let Some(other) = taken.insert(own.clone(), name) {
                    return Err(Failure::new(format!(
                        "{kind}.{name}: both it and {other} would be {own} in Kubernetes: give one of them another name"
                    )));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::converted;
    use super::*;

    #[test]
    fn names_become_labels_of_dns() {
        for (text, expected) in
            [("web", "web"), ("My_Db.1", "my-db-1"), ("1st", "x-1st"), ("a_", "a"), ("_", "x")]
        {
            assert_eq!(label(text), expected);
        }
        assert_eq!(label(&"a".repeat(80)).len(), 63);
        for key in ["a", "traefik.http.routers.a_b.rule", "example.com/a-b"] {
            assert!(is_annotation(key), "{key}");
        }
        for key in ["", "a/b/c", "-a", "a b", "Example.com/a", "a/"] {
            assert!(!is_annotation(key), "{key}");
        }
    }

    #[test]
    fn a_changed_name_is_told_and_a_double_one_refused() {
        let (all, told) = converted("services: {my_db: {image: a}}").unwrap();
        assert!(all.contains_key("Service/my-db"), "{all:?}");
        assert!(told[0].contains("its name in Kubernetes is my-db"), "{told:?}");
        let refused = converted("services: {a_b: {image: a}, a-b: {image: a}}").unwrap_err();
        assert!(refused.message.contains("both it and a-b would be a-b"), "{refused}");
    }
}
