//! A build's steps on the board, under the names that BuildKit gives them.

use super::board::{Board, Task};
use super::errors;
use crate::builder::{Event, Failure, Progress, Step};
use crate::engine::cells::OutputStream;

/// Steps of one build; those that make nothing are not shown.
pub(super) struct Steps {
    board: Board,
    /// Of several; else empty.
    platform: String,
    all: Vec<Shown>,
}

struct Shown {
    task: Option<Task>,
    state: State,
    is_cached: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Started,
    Done,
}

impl Steps {
    pub(super) fn on(board: &Board, platform: &str) -> Self {
        Self { board: board.clone(), platform: platform.to_owned(), all: Vec::new() }
    }

    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Planned(steps) => {
                let (board, platform) = (&self.board, self.platform.as_str());
                let shown = |step: &Step| Shown {
                    task: step.place.map(|place| board.announce(&name(step, platform, place))),
                    state: State::Waiting,
                    is_cached: false,
                };
                self.all = steps.iter().map(shown).collect();
            }
            Event::Step(number, progress) => {
                if let Some(shown) = self.all.get_mut(number) {
                    shown.take(progress);
                }
            }
            // Told by who waits for the stages.
            Event::Ended(_) => {}
        }
    }

    /// The step that failed says why; those that it stopped do not.
    pub(super) fn failed(&mut self, failure: &Failure) {
        let text = errors::text(failure);
        for (number, shown) in self.all.iter_mut().enumerate() {
            let Some(task) = &shown.task else { continue };
            if std::mem::replace(&mut shown.state, State::Done) != State::Started {
                continue;
            }
            match failure.step.is_none_or(|step| step == number) {
                true => task.failed(&text),
                false => task.failed("context canceled"),
            }
        }
    }
}

impl Shown {
    fn take(&mut self, progress: Progress) {
        let Some(task) = &mut self.task else { return };
        match progress {
            Progress::Started => {
                self.state = State::Started;
                task.start();
            }
            Progress::Cached => self.is_cached = true,
            Progress::Running(_) => {}
            Progress::Output((stream, bytes)) => {
                task.output(stream == OutputStream::Stderr, &bytes);
            }
            Progress::Note(line) => task.output(false, &line.into()),
            Progress::Done(_) => {
                self.state = State::Done;
                task.done(self.is_cached);
            }
        }
    }
}

/// `[build 2/5] RUN make`, `[linux/arm64 build 2/5] COPY . /`
fn name(step: &Step, platform: &str, (number, count): (usize, usize)) -> String {
    let width = count.to_string().len();
    let part = |text: &str| if text.is_empty() { String::new() } else { format!("{text} ") };
    let (platform, stage) = (part(platform), part(&step.stage));
    let text = step.text.lines().next().unwrap_or_default();
    format!("[{platform}{stage}{number:width$}/{count}] {text}")
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::error::Error;

    #[tokio::test]
    async fn steps_have_buildkits_names_and_the_one_that_failed_says_why() {
        let step = |text: &str, stage: &str, place| Step {
            text: text.to_owned(),
            stage: stage.to_owned(),
            place,
        };
        let board = Board::new();
        let mut steps = Steps::on(&board, "");
        steps.take(Event::Planned(vec![
            step("FROM a AS one", "one", Some((1, 10))),
            step("ENV A=b", "one", None),
            step("RUN make", "one", Some((2, 10))),
            step("RUN other\nmore", "", Some((2, 2))),
        ]));
        for progress in [Progress::Started, Progress::Cached, Progress::Done(String::new())] {
            steps.take(Event::Step(0, progress));
        }
        steps.take(Event::Step(1, Progress::Started));
        steps.take(Event::Step(2, Progress::Started));
        steps.take(Event::Step(3, Progress::Started));
        steps.failed(&Failure { step: Some(2), ..Error::invalid("no").into() });
        board.close();
        let shown: Vec<_> = board.follow().map(|shown| shown.vertexes[0].clone()).collect().await;
        let told: Vec<_> =
            shown.iter().map(|it| (it.name.as_str(), it.cached, it.error.as_str())).collect();
        let expected = [
            ("[one  1/10] FROM a AS one", false, ""),
            ("[one  1/10] FROM a AS one", true, ""),
            ("[one  2/10] RUN make", false, ""),
            ("[2/2] RUN other", false, ""),
            ("[one  2/10] RUN make", false, "no"),
            ("[2/2] RUN other", false, "context canceled"),
        ];
        assert_eq!(told, expected);
    }
}
