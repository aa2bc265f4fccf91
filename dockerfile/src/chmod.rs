//! The permissions of `--chmod`: octal (`0755`) or symbolic (`u=rwX,go-w`), as chmod(1) has them without a umask.

/// Permissions, set-id and sticky.
const ALL: u32 = 0o7777;

/// The standard bits that `=` without a class sets and clears.
const STANDARD: u32 = 0o6777;

const STICKY: u32 = 0o1000;

/// What to do to a file's mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chmod {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Set(u32),
    Clear(u32),
    /// Set on directories, and on files that somebody may execute.
    SetExecute(u32),
    /// Copies the three bits of one class into others: how far they stand from the right, and which bits may change.
    Copy {
        from: u32,
        into: u32,
        operator: Operator,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Assign,
}

impl Chmod {
    /// # Errors
    /// In BuildKit's words: `invalid chmod parameter: '8'. it should be octal string and between 0 and 07777`,
    /// `invalid syntax`
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let is_octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= ALL);
            let mode = mode.ok_or_else(|| {
                format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
            })?;
            return Ok(Self { steps: vec![Step::Clear(ALL), Step::Set(mode)] });
        }
        let mut steps = Vec::new();
        for clause in text.split(',') {
            read_clause(clause, &mut steps).ok_or_else(|| "invalid syntax".to_owned())?;
        }
        Ok(Self { steps })
    }

    /// The mode (of twelve bits) after the change.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let is_executable = is_directory || mode & 0o111 != 0;
        self.steps.iter().fold(mode & ALL, |mode, step| match *step {
            Step::Set(bits) => mode | bits,
            Step::Clear(bits) => mode & !bits,
            Step::SetExecute(bits) if is_executable => mode | bits,
            Step::SetExecute(_) => mode,
            Step::Copy { from, into, operator } => {
                let bits = (((mode >> from) & 0o7) * 0o111) & into;
                match operator {
                    Operator::Add => mode | bits,
                    Operator::Remove => mode & !bits,
                    Operator::Assign => (mode & !into) | bits,
                }
            }
        })
    }
}

/// Classes, then any number of operators with their permissions.
fn read_clause(clause: &str, steps: &mut Vec<Step>) -> Option<()> {
    let start = clause.find(|letter| !matches!(letter, 'u' | 'g' | 'o' | 'a'))?;
    let (classes, mut rest) = clause.split_at(start);
    let mut who = classes.chars().fold(0, |who, class| {
        who | match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o0007,
            _ => STANDARD,
        }
    });
    while let Some(letter) = rest.chars().next() {
        let operator = match letter {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            '=' => Operator::Assign,
            _ => return None,
        };
        let length = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |next| next + 1);
        read_permissions(&rest[1..length], operator, &mut who, steps)?;
        rest = &rest[length..];
    }
    Some(())
}

fn read_permissions(
    letters: &str,
    operator: Operator,
    who: &mut u32,
    steps: &mut Vec<Step>,
) -> Option<()> {
    // The sticky bit is a class's only while it is named.
    *who &= !STICKY;
    let (mut bits, mut execute, mut is_assigned) = (0, 0, false);
    for letter in letters.chars() {
        // Set-id and sticky are nothing to others alone.
        let is_special = *who == 0 || *who & !0o7 != 0;
        match letter {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= 0o111,
            'X' if operator == Operator::Remove => bits |= 0o111,
            'X' => execute |= 0o111,
            's' if is_special => bits |= 0o6000,
            't' if is_special => {
                *who |= STICKY;
                bits |= STICKY;
            }
            's' | 't' => {}
            'u' | 'g' | 'o' => {
                if bits != 0 {
                    change(operator, *who, std::mem::take(&mut bits), steps);
                }
                is_assigned = true;
                if execute != 0 {
                    steps.push(Step::SetExecute(masked(*who, std::mem::take(&mut execute))));
                }
                let from = match letter {
                    'u' => 6,
                    'g' => 3,
                    _ => 0,
                };
                steps.push(Step::Copy { from, into: masked(*who, 0o777), operator });
            }
            _ => return None,
        }
    }
    if bits != 0 || operator == Operator::Assign && !is_assigned {
        change(operator, *who, bits, steps);
    }
    if execute != 0 {
        steps.push(Step::SetExecute(masked(*who, execute)));
    }
    Some(())
}

fn change(operator: Operator, who: u32, bits: u32, steps: &mut Vec<Step>) {
    match operator {
        Operator::Add => steps.push(Step::Set(masked(who, bits))),
        Operator::Remove => steps.push(Step::Clear(masked(who, bits))),
        Operator::Assign => {
            steps.push(Step::Clear(if who == 0 { STANDARD } else { who }));
            steps.push(Step::Set(masked(who, bits)));
        }
    }
}

/// No class is every class.
fn masked(who: u32, bits: u32) -> u32 {
    if who == 0 { bits } else { who & bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_set_as_by_chmod() {
        for (text, mode, is_directory, result) in [
            ("0755", 0o600, false, 0o755),
            ("7", 0o7777, false, 0o7),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o711, false, 0o755),
            ("+x", 0o640, false, 0o751),
            ("a-w", 0o777, false, 0o555),
            ("go=", 0o777, false, 0o700),
            ("g=u,o=g-w", 0o741, false, 0o775),
            ("u+s,g+s,+t", 0o755, false, 0o7755),
            ("o=t", 0o777, false, 0o770),
            ("-X", 0o755, false, 0o644),
        ] {
            let chmod = Chmod::parse(text).unwrap();
            assert_eq!(chmod.apply(mode, is_directory), result, "{text} {mode:o}");
        }
        for text in ["", "u", "u=rwq", "x", "u=r,", ",u=r", "rwx"] {
            assert_eq!(Chmod::parse(text), Err("invalid syntax".to_owned()), "{text}");
        }
        for text in ["8", "07778", "17777", "0o7"] {
            assert!(Chmod::parse(text).unwrap_err().starts_with("invalid chmod parameter: '"));
        }
    }
}
