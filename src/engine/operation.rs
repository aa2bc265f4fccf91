//! Mutations outlive the client that asked for them, and a retry joins the attempt under way.
//!
//! kubelet gives up on a call after minutes and asks again with the same key; a half-made object
//! must then neither be lost nor block its own name ("name is reserved").

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::error::{Error, Kind, Result};

/// Runs `work` in a task of its own: dropping the returned future does not stop it.
pub(crate) async fn run<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal(format!("the operation ended early: {error}"))),
    }
}

/// The outcome of an operation as every caller that joined it gets it.
type Outcome<T> = std::result::Result<T, (Kind, String)>;

type UnderWay<K, T> = Arc<Mutex<HashMap<K, watch::Receiver<Option<Outcome<T>>>>>>;

/// Operations under way, by what identifies them to a client.
pub(crate) struct Flights<K, T> {
    under_way: UnderWay<K, T>,
}

impl<K, T> Flights<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        Self { under_way: Arc::default() }
    }

    /// Joins the operation under way for `key`, or starts `work`.
    pub(crate) async fn join<W>(&self, key: K, work: impl FnOnce() -> W) -> Result<T>
    where
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let mut outcome = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(flight) = under_way.get(&key) {
                flight.clone()
            } else {
                let (sender, receiver) = watch::channel(None);
                under_way.insert(key.clone(), receiver.clone());
                self.start(key, work(), sender);
                receiver
            }
        };
        let done = outcome.wait_for(Option::is_some).await;
        match done.as_deref() {
            Ok(Some(Ok(value))) => Ok(value.clone()),
            Ok(Some(Err((kind, chain)))) => Err(Error::new(*kind, chain.clone())),
            // The sender is dropped unsent only when the task panicked.
            Ok(None) | Err(_) => Err(Error::internal("the operation ended early")),
        }
    }

    fn start<W>(&self, key: K, work: W, outcome: watch::Sender<Option<Outcome<T>>>)
    where
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let landing = Landing { under_way: self.under_way.clone(), key };
        tokio::spawn(async move {
            let result = work.await.map_err(|error| (error.kind(), error.chain()));
            // The key is free before anybody hears of the end: who asks then starts anew, and
            // finds the object that was made.
            drop(landing);
            outcome.send_replace(Some(result));
        });
    }
}

/// Frees the key also when the operation panics.
struct Landing<K: Eq + Hash, T> {
    under_way: UnderWay<K, T>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_retry_joins_the_attempt_under_way() {
        let flights = Flights::new();
        let starts = Arc::new(AtomicU32::new(0));
        let gate = Arc::new(tokio::sync::Notify::new());
        let attempt = || {
            let (starts, gate) = (starts.clone(), gate.clone());
            flights.join("web", move || async move {
                starts.fetch_add(1, Ordering::Relaxed);
                gate.notified().await;
                Ok(7)
            })
        };

        let (first, second, ()) = tokio::join!(attempt(), attempt(), async { gate.notify_one() });

        assert_eq!((first.unwrap(), second.unwrap()), (7, 7));
        assert_eq!(starts.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_operation_goes_on_when_its_caller_hangs_up() {
        let flights: Flights<&str, u32> = Flights::new();
        let (done, mut finished) = watch::channel(false);
        let gate = Arc::new(tokio::sync::Notify::new());
        let opened = gate.clone();
        let call = flights.join("web", move || async move {
            opened.notified().await;
            done.send_replace(true);
            Ok(1)
        });

        let hung_up = tokio::time::timeout(std::time::Duration::from_millis(1), call).await;
        assert!(hung_up.is_err());
        gate.notify_one();
        finished.wait_for(|done| *done).await.unwrap();
    }

    #[tokio::test]
    async fn a_failure_keeps_its_kind_and_frees_the_key() {
        let flights: Flights<&str, u32> = Flights::new();
        let failed = flights.join("web", || async { Err(Error::not_found("image x")) }).await;
        assert_eq!(failed.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(flights.join("web", || async { Ok(2) }).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_the_key() {
        let flights: Flights<&str, u32> = Flights::new();
        let failed = flights.join("web", || async { panic!("a bug") }).await;
        assert_eq!(failed.unwrap_err().kind(), Kind::Internal);
        assert_eq!(flights.join("web", || async { Ok(2) }).await.unwrap(), 2);
    }
}
