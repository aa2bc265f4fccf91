//! The signals that STOPSIGNAL may name: Linux's, with or without SIG, in any case, or a number.

/// Between them `RTMIN+n` and `RTMAX-n` are signals too.
const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// # Errors
/// `invalid signal: SIGNOTHING`
pub fn check(text: &str) -> Result<(), String> {
    let invalid = || format!("invalid signal: {text}");
    if let Ok(number) = text.parse::<i64>() {
        return if number == 0 { Err(invalid()) } else { Ok(()) };
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |start: &str, last: u8| {
        let steps = name.strip_prefix(start)?.parse::<u8>().ok()?;
        // Spelled as a table would: no sign, no zeros in front.
        (steps >= 1 && steps <= last && name.len() == start.len() + steps.to_string().len())
            .then_some(())
    };
    let is_known = NAMES.contains(&name)
        || real_time("RTMIN+", 15).is_some()
        || real_time("RTMAX-", 14).is_some();
    if is_known { Ok(()) } else { Err(invalid()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for text in ["SIGTERM", "term", "9", "RTMIN+15", "SIGRTMAX-1", "sigrtmin"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in ["", "0", "SIGX", "RTMIN+16", "RTMAX-0", "RTMIN+01", "TERM "] {
            assert_eq!(check(text), Err(format!("invalid signal: {text}")));
        }
    }
}
