//! What a build tells as it goes. Doors make their own words of it.

use cais_dockerfile::Range;
use tokio::sync::mpsc;

use crate::engine::cells::Output;
use crate::error::{Error, Kind};
use crate::image::ImageId;

/// Of one build. The last is [`Event::Ended`].
pub(crate) enum Event {
    /// The steps that will be done, in the order of the file. The others are of stages that nobody
    /// needs.
    Planned(Vec<Step>),
    /// About one of them, by its place in that order. Steps of stages that do not need each other
    /// go on at the same time.
    Step(usize, Progress),
    Ended(Result<ImageId, Failure>),
}

/// A step that will be done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    /// As it is written.
    pub(crate) text: String,
    /// The name of its stage, or `stage-N`; empty if the file has only one.
    pub(crate) stage: String,
    /// Its number, from 1, among those of its stage that make something, and their count. `None` for
    /// one that makes nothing.
    pub(crate) place: Option<(usize, usize)>,
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
    /// That command's words.
    pub(crate) command: String,
    /// The first and the last line of the Dockerfile that it is about.
    pub(crate) lines: Option<(usize, usize)>,
    /// The step in which it came up, by its place among those that were planned.
    pub(crate) step: Option<usize>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, code: None, command: String::new(), lines: None, step: None }
    }
}

impl Failure {
    /// Names the step, unless it has one.
    pub(super) fn of(mut self, step: usize) -> Self {
        self.step.get_or_insert(step);
        self
    }

    /// Names the place, unless it has one.
    pub(super) fn at(mut self, range: Range) -> Self {
        self.lines.get_or_insert((range.start.line, range.end.line));
        self
    }

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
