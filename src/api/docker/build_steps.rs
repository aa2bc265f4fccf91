//! A build's progress step by step, for a client that draws it (`progress=steps`, our own addition to the call). All of it is in
//! `aux`, which other readers pass over:
//!
//! ```text
//!   {"Steps": [{"Text": "RUN make", "Stage": "build", "Number": 2, "Count": 3}, …]}   first; those that make nothing have no number
//!   {"Step": 0, "State": "started"}     or cached, done, failed
//!   {"Step": 0, "Output": "…"}          of its command, or a line for people
//!   {"ID": "sha256:…"}                  last, or else an error
//! ```

use serde_json::{Value, json};

use super::build_lines::whole_letters;
use super::wire::image::{ErrorDetail, Message};
use crate::builder::{Event, Failure, Progress, Step};
use crate::engine::cells::OutputStream;

/// What is kept of one build.
#[derive(Default)]
pub(super) struct Steps {
    /// The beginning of a letter that is not whole yet, of each stream of each step.
    rests: Vec<[Vec<u8>; 2]>,
}

impl Steps {
    pub(super) fn take(&mut self, event: Event) -> Vec<Message> {
        match event {
            Event::Planned(steps) => {
                self.rests = steps.iter().map(|_| Default::default()).collect();
                let steps: Vec<Value> = steps.iter().map(described).collect();
                vec![aux(json!({ "Steps": steps }))]
            }
            Event::Step(number, progress) => self.step(number, progress).into_iter().collect(),
            Event::Ended(Ok(image)) => vec![aux(json!({ "ID": image.to_string() }))],
            Event::Ended(Err(failure)) => failed(&failure),
        }
    }

    fn step(&mut self, number: usize, progress: Progress) -> Option<Message> {
        let state = |state: &str| Some(aux(json!({ "Step": number, "State": state })));
        let output = |text: String| Some(aux(json!({ "Step": number, "Output": text })));
        match progress {
            Progress::Started => state("started"),
            Progress::Cached => state("cached"),
            Progress::Done(_) => state("done"),
            Progress::Running(_) => None,
            Progress::Note(line) => output(line),
            Progress::Output((stream, bytes)) => {
                let [out, error] = self.rests.get_mut(number)?;
                let rest = match stream {
                    OutputStream::Stdout => out,
                    OutputStream::Stderr => error,
                };
                rest.extend_from_slice(&bytes);
                output(whole_letters(rest))
            }
        }
    }
}

fn described(step: &Step) -> Value {
    let mut described = json!({ "Text": step.text, "Stage": step.stage });
    if let Some((number, count)) = step.place {
        described["Number"] = number.into();
        described["Count"] = count.into();
    }
    described
}

fn failed(failure: &Failure) -> Vec<Message> {
    let step = failure.step.map(|step| aux(json!({ "Step": step, "State": "failed" })));
    let message = failure.error.chain();
    let error_detail = ErrorDetail { code: failure.code, message: message.clone() };
    let last =
        Message { error: Some(message), error_detail: Some(error_detail), ..Message::default() };
    step.into_iter().chain([last]).collect()
}

fn aux(value: Value) -> Message {
    Message { aux: Some(value), ..Message::default() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::error::Error;

    #[test]
    fn steps_are_told_as_they_go() {
        let mut steps = Steps::default();
        let mut take = |event| {
            let told = steps.take(event).into_iter().map(|message| match message.aux {
                Some(aux) => aux,
                None => message.error.into(),
            });
            Value::from(told.collect::<Vec<_>>()).to_string()
        };
        let one = Step { text: "FROM a".to_owned(), stage: "b".to_owned(), place: Some((1, 2)) };
        let other = Step { text: "ENV a=b".to_owned(), ..Step::default() };
        assert_eq!(
            take(Event::Planned(vec![one, other])),
            r#"[{"Steps":[{"Count":2,"Number":1,"Stage":"b","Text":"FROM a"},{"Stage":"","Text":"ENV a=b"}]}]"#
        );
        assert_eq!(take(Event::Step(1, Progress::Cached)), r#"[{"State":"cached","Step":1}]"#);
        assert_eq!(take(Event::Step(0, Progress::Running("x".to_owned()))), "[]");
        let out = |bytes: &'static [u8]| {
            let output = (OutputStream::Stderr, Bytes::from_static(bytes));
            Event::Step(0, Progress::Output(output))
        };
        assert_eq!(take(out(b"gr\xc3")), r#"[{"Output":"gr","Step":0}]"#);
        assert_eq!(take(out(b"\xbcn\n")), r#"[{"Output":"ün\n","Step":0}]"#);
        let failure = Failure { step: Some(1), ..Error::invalid("no").into() };
        assert_eq!(take(Event::Ended(Err(failure))), r#"[{"State":"failed","Step":1},"no"]"#);
    }
}
