//! The addresses given out for sessions: each opens one session once, within a minute.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::id;

pub(crate) const LIFETIME: Duration = Duration::from_secs(60);
const LIMIT: usize = 1000;

/// What waits for its client, by token. A token is 256 random bits, looked up as a whole under a
/// keyed hash: comparing tells a guesser nothing about how close a guess was.
pub(crate) struct Tokens<T> {
    waiting: Mutex<HashMap<String, (T, Instant)>>,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<T> Tokens<T> {
    pub(crate) fn issue(&self, session: T) -> Result<String> {
        self.issue_at(session, Instant::now())
    }

    /// What the token stands for, if it was not yet used and its minute is not over.
    pub(crate) fn redeem(&self, token: &str) -> Option<T> {
        self.redeem_at(token, Instant::now())
    }

    fn issue_at(&self, session: T, now: Instant) -> Result<String> {
        let token = id::random_hex()?;
        let mut waiting = self.lock();
        waiting.retain(|_, (_, issued)| is_fresh(*issued, now));
        if waiting.len() >= LIMIT {
            return Err(Error::new(
                Kind::Exhausted,
                "1000 exec, attach and port-forward addresses wait for their clients",
            ));
        }
        waiting.insert(token.clone(), (session, now));
        Ok(token)
    }

    fn redeem_at(&self, token: &str, now: Instant) -> Option<T> {
        let (session, issued) = self.lock().remove(token)?;
        is_fresh(issued, now).then_some(session)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (T, Instant)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(issued: Instant, now: Instant) -> bool {
    now.saturating_duration_since(issued) < LIFETIME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_session_once() {
        let tokens = Tokens::default();
        let token = tokens.issue(7).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(tokens.redeem("guess"), None);
        assert_eq!(tokens.redeem(&token), Some(7));
        assert_eq!(tokens.redeem(&token), None);
    }

    #[test]
    fn a_token_ends_after_a_minute() {
        let tokens = Tokens::default();
        let issued = Instant::now();
        let token = tokens.issue_at(7, issued).unwrap();
        assert_eq!(tokens.redeem_at(&token, issued + LIFETIME), None);
    }

    #[test]
    fn more_than_a_thousand_waiting_tokens_are_refused_until_they_end() {
        let tokens = Tokens::default();
        let now = Instant::now();
        for n in 0..LIMIT {
            tokens.issue_at(n, now).unwrap();
        }
        assert_eq!(tokens.issue_at(0, now).unwrap_err().kind(), Kind::Exhausted);
        assert!(tokens.issue_at(0, now + LIFETIME).is_ok());
    }
}
