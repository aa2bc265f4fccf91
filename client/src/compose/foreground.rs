//! `compose up` in the foreground: what the containers write, until all have ended or the user has had enough.
//!
//! ```text
//!   streams   a thread each   ──▶ standard output          at its end: Silent
//!   events    a thread        ──▶ Event                    containers that start and end
//!   signals   a thread        ──▶ Interrupt                the first stops, the second kills, the third leaves
//!   starting, stopping        ──▶ Started, Stopped
//! ```
//! All of them tell the main thread, which alone decides.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Scope};

use cais_compose::Node;
use clap::Args;

use super::containers::{self, Container};
use super::converge::Act;
use super::lines::{Look, Voice, Voices};
use super::{labels, logs, stopping};
use crate::attached::Interrupts;
use crate::client::{Path, documents};
use crate::commands::logs::point;
use crate::error::{Failure, Result};
use crate::json::Value;
use crate::output;

/// Ctrl-C, as a shell has it.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are docker compose's flags")]
pub(super) struct Attaching {
    /// Stops all containers if any container was stopped. Incompatible with -d
    #[arg(long)]
    abort_on_container_exit: bool,
    /// Stops all containers if any container exited with failure. Incompatible with -d
    #[arg(long)]
    abort_on_container_failure: bool,
    /// Restrict attaching to the specified services. Incompatible with --attach-dependencies.
    #[arg(long)]
    attach: Vec<String>,
    /// Automatically attach to log output of dependent services
    #[arg(long)]
    attach_dependencies: bool,
    /// Return the exit code of the selected service container. Implies --abort-on-container-exit
    #[arg(long)]
    exit_code_from: Option<String>,
    /// Do not attach (stream logs) to the specified services
    #[arg(long)]
    no_attach: Vec<String>,
    /// Produce monochrome output
    #[arg(long)]
    no_color: bool,
    /// Don't print prefix in logs
    #[arg(long)]
    no_log_prefix: bool,
    /// Show timestamps
    #[arg(long)]
    timestamps: bool,
}

impl Attaching {
    /// Whether there is a flag that makes no sense in the background.
    pub(super) fn is_asked_for(&self) -> bool {
        self.abort_on_container_exit
            || self.abort_on_container_failure
            || self.attach_dependencies
            || self.exit_code_from.is_some()
            || !self.attach.is_empty()
    }
}

/// Which end of a container ends all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cascade {
    None,
    Any,
    Failure,
}

pub(super) struct Foreground<'a> {
    act: &'a Act<'a>,
    flags: &'a Attaching,
    cascade: Cascade,
    /// Services whose output is shown.
    shown: Vec<String>,
    /// Services that all this is about: when their containers have ended, it is over.
    awaited: Vec<String>,
}

enum Happening {
    Interrupt,
    Started(Result<()>),
    Stopped(Result<()>),
    Event(Value),
    /// There are no more events.
    Deaf(Failure),
    /// A stream of this container has ended.
    Silent(String, Result<()>),
}

impl<'a> Foreground<'a> {
    pub(super) fn new(act: &'a Act<'a>, flags: &'a Attaching) -> Result<Self> {
        if flags.abort_on_container_exit && flags.abort_on_container_failure {
            return Err(Failure::new(
                "--abort-on-container-failure cannot be combined with --abort-on-container-exit",
            ));
        }
        if !flags.attach.is_empty() && flags.attach_dependencies {
            return Err(Failure::new("cannot combine --attach and --attach-dependencies"));
        }
        let named = flags.attach.iter().chain(&flags.exit_code_from).chain(&flags.no_attach);
        for name in named {
            if act.project.service(name).is_none() {
                return Err(Failure::new(format!("no such service: {name}")));
            }
        }
        let is_asked_for = |name: &&&str| {
            let attach = act.project.service(name).and_then(|it| it.get("attach"));
            let is_own = act.named.is_empty() || act.named.iter().any(|it| it == *name);
            match flags.attach.as_slice() {
                [] => {
                    (is_own || flags.attach_dependencies)
                        && attach.and_then(Node::as_bool) != Some(false)
                }
                given => given.iter().any(|it| it == *name),
            }
        };
        let shown = act.order.iter().filter(is_asked_for).map(|it| (*it).to_owned());
        let shown: Vec<String> = shown.filter(|it| !flags.no_attach.contains(it)).collect();
        let awaited = if act.named.is_empty() { shown.clone() } else { act.named.to_vec() };
        let cascade = if flags.abort_on_container_failure {
            Cascade::Failure
        } else if flags.abort_on_container_exit || flags.exit_code_from.is_some() {
            Cascade::Any
        } else {
            Cascade::None
        };
        Ok(Self { act, flags, cascade, shown, awaited })
    }

    /// Starts everything and stays until it has ended. With something to do once it is started, it stays until it is told to
    /// end: what does not run may be made anew.
    ///
    /// # Errors
    /// The exit code that was asked for, 130 after Ctrl-C, or what went wrong.
    pub(super) fn run(&self, then: Option<&dyn Fn()>) -> Result<()> {
        let interrupts = Interrupts::block();
        let (sender, happenings) = mpsc::channel();
        let told = sender.clone();
        interrupts.serve(move || told.send(Happening::Interrupt).is_ok());
        self.hear_events(sender.clone())?;
        let mut all = containers::of_project(self.act.cais, &self.act.project.name)?;
        all.retain(|it| self.is_awaited(&it.service) || self.shown.contains(&it.service));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let look = Look {
            is_timed: self.flags.timestamps,
            ..Look::new(self.flags.no_log_prefix, self.flags.no_color)
        };
        let voices = Voices::new(look, all.iter().map(Container::short_name));
        let is_stopping = AtomicBool::new(false);
        let mut session = Session {
            foreground: self,
            sender,
            voices,
            heard: BTreeMap::new(),
            running: BTreeSet::new(),
            alive: BTreeSet::new(),
            at_work: 0,
            is_stopping: &is_stopping,
            then,
            interrupts: 0,
            has_cascaded: false,
            has_code_from: false,
            code: None,
            outcome: Ok(()),
        };
        session.attach(&all)?;
        thread::scope(|scope| {
            let outcome = session.live(scope, &happenings);
            // Whatever ended it: who still starts things is waited for, and is not to wait itself.
            is_stopping.store(true, Ordering::SeqCst);
            outcome
        })
    }

    fn is_awaited(&self, service: &str) -> bool {
        self.awaited.iter().any(|it| it == service)
    }

    /// Asked for before the first start: none is missed.
    fn hear_events(&self, sender: Sender<Happening>) -> Result<()> {
        let project = format!("{}={}", labels::PROJECT, self.act.project.name);
        let once = format!("{}=False", labels::ONE_OFF);
        let filters = serde_json::json!({ "type": ["container"], "label": [project, once] });
        let path = Path::new(&["events"]).with("filters", &filters.to_string());
        let reply = self.act.cais.client.get(path)?;
        thread::spawn(move || {
            for event in documents(reply.body) {
                let sent = match event {
                    Ok(event) => sender.send(Happening::Event(event)),
                    Err(failure) => sender.send(Happening::Deaf(failure)),
                };
                if sent.is_err() {
                    return;
                }
            }
            let _ = sender.send(Happening::Deaf(Failure::new("the daemon's events have ended")));
        });
        Ok(())
    }
}

/// A container whose output is shown.
struct Heard {
    voice: Voice,
    is_open: bool,
    /// Its first start is covered by the stream.
    is_to_start: bool,
    /// What is to be told of its end, once all of its output is there.
    end: Option<String>,
    /// It was started again, and its stream is still to be asked for.
    is_back: bool,
}

struct Session<'a> {
    foreground: &'a Foreground<'a>,
    sender: Sender<Happening>,
    voices: Voices,
    heard: BTreeMap<String, Heard>,
    /// Those that are waited for.
    running: BTreeSet<String>,
    /// Those that were seen to run: of the end of each there will be an event.
    alive: BTreeSet<String>,
    /// Starts and stops under way.
    at_work: usize,
    /// Nothing more is started.
    is_stopping: &'a AtomicBool,
    /// What is to be done when all is started.
    then: Option<&'a dyn Fn()>,
    /// How often the user has asked for the end.
    interrupts: usize,
    has_cascaded: bool,
    has_code_from: bool,
    code: Option<i64>,
    outcome: Result<()>,
}

impl<'a> Session<'a> {
    /// Connects to the output of those that are shown, before they are started.
    fn attach(&mut self, all: &[Container]) -> Result<()> {
        let client = &self.foreground.act.cais.client;
        let mut names = Vec::new();
        for container in all {
            let id = &container.id;
            if self.foreground.is_awaited(&container.service) {
                self.running.insert(id.clone());
            }
            if matches!(container.state(), "running" | "paused") {
                self.alive.insert(id.clone());
            }
            if !self.foreground.shown.contains(&container.service) {
                continue;
            }
            names.push(container.short_name());
            let path = Path::new(&["containers", id, "attach"]);
            let path = path.with("stream", "1").with("stdout", "1").with("stderr", "1");
            let shown = client.read(Path::new(&["containers", id, "json"]))?;
            let connection = client.upgrade(path, None)?;
            let voice = self.voices.voice(container.short_name());
            let heard = Heard {
                voice: voice.clone(),
                is_open: true,
                is_to_start: !container.is_running(),
                is_back: false,
                end: None,
            };
            self.heard.insert(id.clone(), heard);
            self.listen(id, voice, connection.reader, !shown["Config"]["Tty"].is_true());
        }
        output::line(&format!("Attaching to {}", names.join(", ")))
    }

    /// Nobody joins the thread: a container that goes on has more to say.
    fn listen(&self, id: &str, voice: Voice, reader: impl Read + Send + 'static, has_frames: bool) {
        let (id, sender) = (id.to_owned(), self.sender.clone());
        thread::spawn(move || {
            let copied = logs::copy(reader, has_frames, &voice);
            let _ = sender.send(Happening::Silent(id, copied));
        });
    }

    fn live<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        happenings: &Receiver<Happening>,
    ) -> Result<()>
    where
        'a: 'scope,
    {
        let (foreground, is_stopping) = (self.foreground, self.is_stopping);
        let goes_on = || !is_stopping.load(Ordering::SeqCst);
        self.at_work += 1;
        let sender = self.sender.clone();
        scope.spawn(move || {
            let _ = sender.send(Happening::Started(foreground.act.start_all(&goes_on)));
        });
        while !self.is_over() {
            let Ok(happening) = happenings.recv() else { break };
            match happening {
                Happening::Interrupt => self.interrupted(scope),
                Happening::Started(started) => {
                    self.at_work -= 1;
                    // What was started at the last moment is stopped as well.
                    if goes_on() {
                        started?;
                        self.then.into_iter().for_each(|then| then());
                    } else {
                        self.end(scope, "stop");
                    }
                }
                Happening::Stopped(stopped) => {
                    self.at_work -= 1;
                    let before = std::mem::replace(&mut self.outcome, Ok(()));
                    self.outcome = before.and(stopped);
                    self.forget_ended()?;
                }
                Happening::Event(event) => self.event(scope, &event)?,
                Happening::Deaf(failure) => return Err(failure),
                Happening::Silent(id, copied) => {
                    copied?;
                    self.silent(&id)?;
                }
            }
        }
        self.result()
    }

    fn is_over(&self) -> bool {
        let is_telling = |it: &Heard| it.is_open && it.end.is_some();
        let is_ending = self.then.is_none() || self.is_stopping.load(Ordering::SeqCst);
        is_ending
            && self.running.is_empty()
            && self.at_work == 0
            && !self.heard.values().any(is_telling)
    }

    fn result(&mut self) -> Result<()> {
        let outcome = std::mem::replace(&mut self.outcome, Ok(()));
        match self.code {
            Some(code) if code != 0 => {
                let message = outcome.err().map(|it| it.message).unwrap_or_default();
                Err(Failure::new(message).with_code(u8::try_from(code & 0xff).unwrap_or(1)))
            }
            _ if self.interrupts > 0 => outcome.and(Err(Failure::exit(INTERRUPTED))),
            _ => outcome,
        }
    }

    fn interrupted<'scope>(&mut self, scope: &'scope Scope<'scope, '_>)
    where
        'a: 'scope,
    {
        self.interrupts += 1;
        match self.interrupts {
            1 => {
                self.end(scope, "stop");
                // That nobody reads it does not keep anything running.
                let _ = output::line("Gracefully Stopping... press Ctrl+C again to force");
            }
            2 => self.end(scope, "kill"),
            _ => leave(),
        }
    }

    /// When all was stopped, nothing is waited for that does not run: it may never have been started.
    fn forget_ended(&mut self) -> Result<()> {
        let Act { cais, project, .. } = self.foreground.act;
        let all = containers::of_project(cais, &project.name)?;
        let left: BTreeSet<&str> =
            all.iter().filter(|it| stopping::is_to_stop(it)).map(|it| it.id.as_str()).collect();
        let alive = &self.alive;
        self.running.retain(|it| left.contains(it.as_str()) || alive.contains(it));
        Ok(())
    }

    fn end<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, verb: &'static str)
    where
        'a: 'scope,
    {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.at_work += 1;
        let (foreground, sender) = (self.foreground, self.sender.clone());
        scope.spawn(move || {
            let ended = stopping::end_all(foreground.act, verb);
            let _ = sender.send(Happening::Stopped(ended));
        });
    }

    fn event<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, event: &Value) -> Result<()>
    where
        'a: 'scope,
    {
        let actor = &event["Actor"];
        let (id, attributes) = (actor["ID"].text(), &actor["Attributes"]);
        let service = attributes[labels::SERVICE].text();
        let is_awaited = self.foreground.is_awaited(service);
        match event["Action"].text() {
            "start" => {
                self.alive.insert(id.to_owned());
                if is_awaited {
                    self.running.insert(id.to_owned());
                }
                if self.foreground.shown.iter().any(|it| it == service) {
                    self.started(id, attributes)?;
                }
            }
            "die" if is_awaited => {
                self.alive.remove(id);
                let code = attributes["exitCode"].text().parse().unwrap_or(0);
                self.died(id, attributes, code)?;
                self.cascade(scope, service, code);
            }
            "destroy" => {
                self.alive.remove(id);
                self.running.remove(id);
            }
            _ => {}
        }
        Ok(())
    }

    fn started(&mut self, id: &str, attributes: &Value) -> Result<()> {
        match self.heard.get_mut(id) {
            Some(heard) if heard.is_to_start => heard.is_to_start = false,
            // Of its former life there is still something to read.
            Some(heard) if heard.is_open => heard.is_back = heard.end.is_some(),
            Some(_) => self.follow(id)?,
            None => {
                let voice = self.voices.voice(&name(attributes));
                let heard =
                    Heard { voice, is_open: false, is_to_start: false, is_back: false, end: None };
                self.heard.insert(id.to_owned(), heard);
                self.follow(id)?;
            }
        }
        Ok(())
    }

    /// What a container writes from its last start on.
    fn follow(&mut self, id: &str) -> Result<()> {
        let client = &self.foreground.act.cais.client;
        let asked = client.read(Path::new(&["containers", id, "json"])).and_then(|shown| {
            let since = point("since", shown["State"]["StartedAt"].text())?;
            let path = Path::new(&["containers", id, "logs"]).with("follow", "1");
            let path = path.with("stdout", "1").with("stderr", "1").with("since", &since);
            Ok((client.get(path)?.body, !shown["Config"]["Tty"].is_true()))
        });
        let (reader, has_frames) = match asked {
            Ok(asked) => asked,
            Err(failure) if failure.is_not_found() => return Ok(()),
            Err(failure) => return Err(failure),
        };
        if let Some(heard) = self.heard.get_mut(id) {
            heard.is_open = true;
            heard.is_back = false;
            let voice = heard.voice.clone();
            self.listen(id, voice, reader, has_frames);
        }
        Ok(())
    }

    fn died(&mut self, id: &str, attributes: &Value, code: i64) -> Result<()> {
        let path = Path::new(&["containers", id, "json"]);
        let comes_back = match self.foreground.act.cais.client.read(path) {
            Ok(shown) => {
                shown["State"]["Restarting"].is_true() || shown["State"]["Running"].is_true()
            }
            Err(failure) if failure.is_not_found() => false,
            Err(failure) => return Err(failure),
        };
        if !comes_back {
            self.running.remove(id);
        }
        let rest = if comes_back { " (restarting)" } else { "" };
        let end = format!("exited with code {code}{rest}");
        match self.heard.get_mut(id) {
            Some(heard) if heard.is_open => {
                heard.end = Some(end);
                Ok(())
            }
            Some(heard) => heard.voice.tell(&end),
            None => self.voices.voice(&name(attributes)).tell(&end),
        }
    }

    fn cascade<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, service: &str, code: i64)
    where
        'a: 'scope,
    {
        let is_cause = match self.foreground.cascade {
            Cascade::None => false,
            Cascade::Any => true,
            Cascade::Failure => code != 0,
        };
        if is_cause && !self.has_cascaded {
            self.has_cascaded = true;
            self.code = Some(code);
            output::notice("Aborting on container exit...");
            self.end(scope, "stop");
        }
        let is_from = self.foreground.flags.exit_code_from.as_deref() == Some(service);
        if is_from && !self.has_code_from {
            self.has_code_from = true;
            self.code = Some(code);
        }
    }

    fn silent(&mut self, id: &str) -> Result<()> {
        let Some(heard) = self.heard.get_mut(id) else { return Ok(()) };
        heard.is_open = false;
        if let Some(end) = heard.end.take() {
            heard.voice.tell(&end)?;
        }
        if heard.is_back { self.follow(id) } else { Ok(()) }
    }
}

#[expect(
    clippy::exit,
    reason = "threads wait for a daemon that does not end what it was told to end"
)]
fn leave() -> ! {
    std::process::exit(INTERRUPTED.into())
}

/// The container's name in its own events.
fn name(attributes: &Value) -> String {
    let label = |key: &str| attributes[key].text();
    let (project, service) = (label(labels::PROJECT), label(labels::SERVICE));
    let short = format!("{service}-{}", label(labels::NUMBER));
    let own = label("name");
    if own == format!("{project}-{short}") { short } else { own.to_owned() }
}
