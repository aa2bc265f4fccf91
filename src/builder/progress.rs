//! What a build tells as it goes. Doors make their own words of it.

use tokio::sync::mpsc;

use crate::engine::cells::Output;
use crate::error::{Error, Kind};
use crate::image::ImageId;

/// Of one build. The last is [`Event::Ended`].
pub(crate) enum Event {
    /// The steps that will be done, as they are written, in the order of the file. The others are of
    /// stages that nobody needs.
    Planned(Vec<String>),
    /// About one of them, by its place in that order. Steps of stages that do not need each other
    /// go on at the same time.
    Step(usize, Progress),
    Ended(Result<ImageId, Failure>),
}

/// What happens to a step.
pub(crate) enum Progress {
    Started,
    /// Its layer was there already.
    Cached,
    /// A command runs, under this id.
    Running(String),
    Output(Output),
    /// For people; a line.
    Note(String),
    /// The id of what there is now: an image's, or the step's own key.
    Done(String),
}

/// Why a build came to nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// Of the command that failed, if one did.
    pub(crate) code: Option<i32>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, code: None }
    }
}

impl Failure {
    pub(super) fn cancelled() -> Self {
        Error::new(Kind::Cancelled, "the build was cancelled").into()
    }
}

/// Where a build tells it.
#[derive(Clone)]
pub(super) struct Teller(pub(super) mpsc::Sender<Event>);

impl Teller {
    pub(super) async fn step(&self, step: usize, progress: Progress) {
        // Who does not listen any more has cancelled the build, which is seen elsewhere.
        let _ = self.0.send(Event::Step(step, progress)).await;
    }

    pub(super) async fn tell(&self, event: Event) {
        let _ = self.0.send(event).await;
    }
}
