//! A build's progress in the words of the classic builder, which programs look for.
//!
//! Steps of different stages go on at the same time, and people read them one after the other: what a
//! later step tells waits until those before it are done.

use std::collections::VecDeque;

use super::wire::image::{ErrorDetail, Message};
use crate::builder::{Event, Failure, Progress, Step as Planned};
use crate::engine::cells::OutputStream;
use crate::image::ImageId;
use crate::image::reference::Reference;

/// Errors of commands, as Docker's clients expect them.
const RED: &str = "\x1b[91m";
const PLAIN: &str = "\x1b[0m";

/// Bytes of output that a step holds back until its turn.
const MOST_HELD: usize = 1 << 20;
/// What a piece of it takes besides.
const PER_PIECE: usize = 128;

/// The classic builder's texts of one build.
pub(super) struct Lines {
    steps: Vec<Step>,
    /// The step that is told as it goes.
    current: usize,
    tags: Vec<Reference>,
    /// Containers of commands are said to be removed.
    is_telling_removals: bool,
}

#[derive(Default)]
struct Step {
    name: String,
    is_started: bool,
    waiting: VecDeque<Progress>,
    /// Bytes of what waits.
    held: usize,
    is_clipped: bool,
    is_done: bool,
    /// The beginning of a letter that is not whole yet, of each stream.
    rest: [Vec<u8>; 2],
    running: Option<String>,
}

impl Lines {
    pub(super) fn new(tags: Vec<Reference>, is_telling_removals: bool) -> Self {
        Self { steps: Vec::new(), current: 0, tags, is_telling_removals }
    }

    /// What there is to say now.
    pub(super) fn take(&mut self, event: Event) -> Vec<Message> {
        match event {
            Event::Planned(names) => {
                let step = |step: Planned| Step { name: step.text, ..Step::default() };
                self.steps = names.into_iter().map(step).collect();
                Vec::new()
            }
            Event::Step(number, progress) => {
                if let Some(step) = self.steps.get_mut(number) {
                    step.is_done |= matches!(progress, Progress::Done(_));
                    step.hold(progress);
                }
                self.due()
            }
            Event::Ended(Ok(image)) => self.built(&image),
            Event::Ended(Err(failure)) => self.failed(&failure),
        }
    }

    /// Of the steps whose turn it is.
    fn due(&mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(is_done) = self.steps.get(self.current).map(|step| step.is_done) {
            all.extend(self.of_step(self.current));
            if !is_done {
                break;
            }
            self.current += 1;
        }
        all
    }

    fn of_step(&mut self, number: usize) -> Vec<Message> {
        let count = self.steps.len();
        let is_telling_removals = self.is_telling_removals;
        let Some(step) = self.steps.get_mut(number) else { return Vec::new() };
        let mut all = Vec::new();
        (step.held, step.is_clipped) = (0, false);
        while let Some(progress) = step.waiting.pop_front() {
            if !std::mem::replace(&mut step.is_started, true) {
                all.push(said(format!("Step {}/{count} : {}\n", number + 1, step.name)));
            }
            all.extend(step.tell(progress, is_telling_removals));
        }
        all
    }

    fn built(&self, image: &ImageId) -> Vec<Message> {
        let aux = Some(serde_json::json!({ "ID": image.to_string() }));
        let mut all = vec![
            Message { aux, ..Message::default() },
            said(format!("Successfully built {}\n", short(image.hex()))),
        ];
        let tagged = |tag: &Reference| said(format!("Successfully tagged {}\n", tag.familiar()));
        all.extend(self.tags.iter().map(tagged));
        all
    }

    fn failed(&mut self, failure: &Failure) -> Vec<Message> {
        let mut all = Vec::new();
        // What was said by then may tell why.
        for number in self.current..self.steps.len() {
            all.extend(self.of_step(number));
        }
        let message = failure.error.chain();
        let error_detail = ErrorDetail { code: failure.code, message: message.clone() };
        all.push(Message {
            error: Some(message),
            error_detail: Some(error_detail),
            ..Message::default()
        });
        all
    }
}

impl Step {
    /// Until its turn; of its output no more than there is room for.
    fn hold(&mut self, progress: Progress) {
        let length = match &progress {
            Progress::Output((_, bytes)) => bytes.len(),
            Progress::Note(line) => line.len(),
            Progress::Started | Progress::Cached | Progress::Running(_) | Progress::Done(_) => {
                self.waiting.push_back(progress);
                return;
            }
        };
        if self.is_clipped {
            return;
        }
        self.held += length + PER_PIECE;
        self.is_clipped = self.held > MOST_HELD;
        self.waiting.push_back(match self.is_clipped {
            true => Progress::Note("[output clipped]\n".to_owned()),
            false => progress,
        });
    }

    fn tell(&mut self, progress: Progress, is_telling_removals: bool) -> Option<Message> {
        match progress {
            Progress::Started => None,
            Progress::Cached => Some(said(" ---> Using cache\n".to_owned())),
            Progress::Running(id) => {
                let text = format!(" ---> Running in {}\n", short(&id));
                self.running = Some(id);
                Some(said(text))
            }
            Progress::Output((stream, bytes)) => {
                let rest = match stream {
                    OutputStream::Stdout => self.rest.first_mut(),
                    OutputStream::Stderr => self.rest.last_mut(),
                }?;
                rest.extend_from_slice(&bytes);
                let text = whole_letters(rest);
                (!text.is_empty()).then(|| match stream {
                    OutputStream::Stdout => said(text),
                    OutputStream::Stderr => said(format!("{RED}{text}{PLAIN}")),
                })
            }
            Progress::Note(line) => Some(said(line)),
            Progress::Done(id) => {
                let removed = self
                    .running
                    .take()
                    .filter(|_| is_telling_removals)
                    .map(|id| format!(" ---> Removed intermediate container {}\n", short(&id)));
                Some(said(format!("{} ---> {}\n", removed.unwrap_or_default(), short(&id))))
            }
        }
    }
}

/// Takes all but the beginning of a letter whose end is still to come.
pub(super) fn whole_letters(bytes: &mut Vec<u8>) -> String {
    let cut = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        // What is no text is told as far as it is one.
        Err(error) if error.error_len().is_some() => bytes.len(),
        Err(error) => error.valid_up_to(),
    };
    let rest = bytes.split_off(cut);
    let whole = std::mem::replace(bytes, rest);
    String::from_utf8_lossy(&whole).into_owned()
}

/// As people read an id.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn said(text: String) -> Message {
    Message { stream: Some(text), ..Message::default() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::error::Error;
    use crate::image::digest::Digest;

    fn texts(messages: Vec<Message>) -> String {
        messages.into_iter().filter_map(|message| message.stream).collect()
    }

    fn out(bytes: &'static [u8]) -> Progress {
        Progress::Output((OutputStream::Stdout, Bytes::from_static(bytes)))
    }

    fn planned<const N: usize>(steps: [&str; N]) -> Event {
        let step = |text: &str| Planned { text: text.to_owned(), ..Planned::default() };
        Event::Planned(steps.map(step).to_vec())
    }

    #[test]
    fn steps_are_told_in_the_order_of_the_file() {
        let id = "0123456789abcdef";
        let tag = Reference::parse("web").unwrap();
        let mut lines = Lines::new(vec![tag], true);
        assert!(lines.take(planned(["FROM a", "RUN x", "FROM b"])).is_empty());

        let said = [
            Event::Step(2, Progress::Started),
            Event::Step(2, Progress::Done(id.to_owned())),
            Event::Step(0, Progress::Started),
            Event::Step(0, Progress::Done(id.to_owned())),
            Event::Step(1, Progress::Started),
            Event::Step(1, Progress::Running(id.to_owned())),
            Event::Step(1, out(b"gr\xc3")),
            Event::Step(1, out(b"\xbcn\n")),
            Event::Step(1, Progress::Done(id.to_owned())),
        ];
        let said: String = said.into_iter().map(|event| texts(lines.take(event))).collect();
        let expected = "\
Step 1/3 : FROM a
 ---> 0123456789ab
Step 2/3 : RUN x
 ---> Running in 0123456789ab
grün
 ---> Removed intermediate container 0123456789ab
 ---> 0123456789ab
Step 3/3 : FROM b
 ---> 0123456789ab
";
        assert_eq!(said, expected);

        let image = ImageId::new(Digest::of(b""));
        let built = lines.take(Event::Ended(Ok(image)));
        assert_eq!(built[0].aux.as_ref().unwrap()["ID"].as_str().unwrap().len(), 71);
        let expected = "Successfully built e3b0c44298fc\nSuccessfully tagged web:latest\n";
        assert_eq!(texts(built), expected);
    }

    #[test]
    fn a_step_that_waits_holds_no_more_than_its_share() {
        let mut lines = Lines::new(Vec::new(), true);
        lines.take(planned(["RUN a", "RUN b"]));
        for _ in 0..MOST_HELD / PER_PIECE {
            assert!(lines.take(Event::Step(1, out(b"x"))).is_empty());
        }
        assert!(lines.take(Event::Step(1, Progress::Done("b".to_owned()))).is_empty());
        let said = texts(lines.take(Event::Step(0, Progress::Done("a".to_owned()))));
        let output = "x".repeat(MOST_HELD / (PER_PIECE + 1));
        let expected = format!(
            "Step 1/2 : RUN a\n ---> a\nStep 2/2 : RUN b\n{output}[output clipped]\n ---> b\n"
        );
        assert!(said == expected, "{} bytes", said.len());
        // Its turn has come: all is told at once.
        let mut lines = Lines::new(Vec::new(), true);
        lines.take(planned(["RUN a"]));
        for _ in 0..2 * MOST_HELD / PER_PIECE {
            assert!(texts(lines.take(Event::Step(0, out(b"x")))).ends_with('x'));
        }
    }

    #[test]
    fn a_failure_has_the_commands_code_and_what_was_said_before_it() {
        let mut lines = Lines::new(Vec::new(), true);
        lines.take(planned(["FROM a", "RUN x"]));
        lines.take(Event::Step(1, Progress::Started));
        let failure = Failure { code: Some(7), ..Error::invalid("no").into() };
        let mut said = lines.take(Event::Ended(Err(failure)));
        let last = said.pop().unwrap();
        assert_eq!(last.error.as_deref(), Some("no"));
        assert_eq!(last.error_detail.unwrap().code, Some(7));
        assert_eq!(texts(said), "Step 2/2 : RUN x\n");
    }
}
