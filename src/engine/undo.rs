//! How a half-done operation is taken back: each acquisition is followed by its described undo.
//!
//! On failure all steps run in reverse, each also when another one failed, and what failed is told
//! with the error that started it.

use std::pin::Pin;

use crate::error::{Error, Result};

type Step = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

#[must_use = "run it on failure, forget it on success"]
#[derive(Default)]
pub(crate) struct Undo {
    steps: Vec<(String, Step)>,
}

impl Undo {
    /// `step` is polled only when the operation is taken back.
    pub(crate) fn push(
        &mut self,
        description: impl Into<String>,
        step: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.steps.push((description.into(), Box::pin(step)));
    }

    /// Takes everything back; returns `error` with what could not be.
    pub(crate) async fn run(mut self, error: Error) -> Error {
        let mut failed = Vec::new();
        while let Some((description, step)) = self.steps.pop() {
            if let Err(left) = step.await {
                failed.push(format!("{description}: {}", left.chain()));
            }
        }
        if failed.is_empty() {
            return error;
        }
        let kind = error.kind();
        Error::new(kind, format!("{} (and left behind: {})", error.chain(), failed.join("; ")))
    }

    /// The operation succeeded: nothing is taken back.
    pub(crate) fn forget(mut self) {
        self.steps.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn all_steps_run_in_reverse_even_when_one_fails() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut undo = Undo::default();
        for (name, works) in [("first", true), ("second", false), ("third", true)] {
            let order = order.clone();
            undo.push(name, async move {
                order.lock().unwrap().push(name);
                if works { Ok(()) } else { Err(Error::internal("stuck")) }
            });
        }

        let error = undo.run(Error::not_found("image x")).await;

        assert_eq!(*order.lock().unwrap(), ["third", "second", "first"]);
        assert_eq!(error.chain(), "image x (and left behind: second: stuck)");
    }
}
