//! Names of signals as images and clients write them.

use nix::sys::signal::Signal;

/// SIGRTMIN and SIGRTMAX as programs know them: the C library keeps the first two for itself.
const REAL_TIME_MIN: i32 = 34;
const REAL_TIME_MAX: i32 = 64;

/// `SIGTERM`, `TERM`, `15`, `RTMIN+3`, `SIGRTMAX-1`.
pub(crate) fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=REAL_TIME_MAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(REAL_TIME_MIN, offset);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(REAL_TIME_MAX, offset);
    }
    format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32)
}

fn real_time(base: i32, offset: &str) -> Option<i32> {
    let offset = if offset.is_empty() { 0 } else { offset.parse().ok()? };
    let number = base.checked_add(offset)?;
    (REAL_TIME_MIN..=REAL_TIME_MAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_every_form_of_their_name() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("RTMIN", 34),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in ["", "SIGNONE", "0", "65", "RTMIN+40", "-1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
