//! Stop signals: CRI numbers them in alphabetical order, the kernel in its own.

use cais_proto::runtime::v1::Signal;

use super::check;
use crate::error::Result;

/// The first real-time signal that programs see: the C library keeps 32 and 33 for itself.
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// Each CRI signal with a name of its own and its kernel number. Where two names share a number,
/// the one to report comes first.
const NAMED: &[(Signal, i32)] = &[
    (Signal::Sigabrt, libc::SIGABRT),
    (Signal::Sigalrm, libc::SIGALRM),
    (Signal::Sigbus, libc::SIGBUS),
    (Signal::Sigchld, libc::SIGCHLD),
    (Signal::Sigcld, libc::SIGCHLD),
    (Signal::Sigcont, libc::SIGCONT),
    (Signal::Sigfpe, libc::SIGFPE),
    (Signal::Sighup, libc::SIGHUP),
    (Signal::Sigill, libc::SIGILL),
    (Signal::Sigint, libc::SIGINT),
    (Signal::Sigio, libc::SIGIO),
    (Signal::Sigiot, libc::SIGABRT),
    (Signal::Sigkill, libc::SIGKILL),
    (Signal::Sigpipe, libc::SIGPIPE),
    (Signal::Sigpoll, libc::SIGIO),
    (Signal::Sigprof, libc::SIGPROF),
    (Signal::Sigpwr, libc::SIGPWR),
    (Signal::Sigquit, libc::SIGQUIT),
    (Signal::Sigsegv, libc::SIGSEGV),
    (Signal::Sigstkflt, libc::SIGSTKFLT),
    (Signal::Sigstop, libc::SIGSTOP),
    (Signal::Sigsys, libc::SIGSYS),
    (Signal::Sigterm, libc::SIGTERM),
    (Signal::Sigtrap, libc::SIGTRAP),
    (Signal::Sigtstp, libc::SIGTSTP),
    (Signal::Sigttin, libc::SIGTTIN),
    (Signal::Sigttou, libc::SIGTTOU),
    (Signal::Sigurg, libc::SIGURG),
    (Signal::Sigusr1, libc::SIGUSR1),
    (Signal::Sigusr2, libc::SIGUSR2),
    (Signal::Sigvtalrm, libc::SIGVTALRM),
    (Signal::Sigwinch, libc::SIGWINCH),
    (Signal::Sigxcpu, libc::SIGXCPU),
    (Signal::Sigxfsz, libc::SIGXFSZ),
];

/// The kernel's number; `None` when the image is to decide.
pub(crate) fn stop_signal(field: &str, value: i32) -> Result<Option<i32>> {
    let signal: Signal = check::known(field, value, "Signal")?;
    if signal == Signal::RuntimeDefault {
        return Ok(None);
    }
    let named = NAMED.iter().find(|(name, _)| *name == signal).map(|(_, number)| *number);
    // All that is not named is real-time: RTMIN, RTMIN+1 … RTMIN+15, RTMAX-14 … RTMAX, in a row.
    Ok(Some(named.unwrap_or(value - Signal::Sigrtmin as i32 + SIGRTMIN)))
}

/// The CRI's number for the kernel's; the default for one that CRI has no name for.
pub(crate) fn to_cri(number: i32) -> Signal {
    if (SIGRTMIN..=SIGRTMAX).contains(&number) {
        let value = number - SIGRTMIN + Signal::Sigrtmin as i32;
        return Signal::try_from(value).unwrap_or(Signal::RuntimeDefault);
    }
    NAMED
        .iter()
        .find(|(_, kernel)| *kernel == number)
        .map_or(Signal::RuntimeDefault, |(signal, _)| *signal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn every_signal_has_the_kernels_number_and_comes_back() {
        for value in 1..=65 {
            let number = stop_signal("f", value).unwrap().unwrap();
            let signal = Signal::try_from(value).unwrap();
            let aliases = [
                (Signal::Sigcld, Signal::Sigchld),
                (Signal::Sigiot, Signal::Sigabrt),
                (Signal::Sigpoll, Signal::Sigio),
            ];
            let alias = aliases.iter().find(|(alias, _)| *alias == signal);
            assert_eq!(to_cri(number), alias.map_or(signal, |(_, name)| *name), "{number}");
        }
    }

    #[test]
    fn real_time_signals_count_from_both_ends() {
        for (signal, number) in [
            (Signal::Sigrtmin, 34),
            (Signal::Sigrtminplus15, 49),
            (Signal::Sigrtmaxminus14, 50),
            (Signal::Sigrtmax, 64),
            (Signal::Sigterm, 15),
            (Signal::Sigwinch, 28),
        ] {
            assert_eq!(stop_signal("f", signal as i32).unwrap(), Some(number), "{signal:?}");
        }
    }

    #[test]
    fn the_default_leaves_it_to_the_image_and_a_stranger_is_refused() {
        assert_eq!(stop_signal("f", 0).unwrap(), None);
        for value in [-1, 66] {
            let error = stop_signal("config.stop_signal", value).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument);
            assert_eq!(error.chain(), format!("config.stop_signal: {value} is not a Signal"));
        }
        assert_eq!(to_cri(32), Signal::RuntimeDefault);
    }
}
