//! One place that knows every request.

use super::Server;
use super::attach::Wanted;
use super::children::Phase;
use super::clients::Caller;
use super::pod::wrong_state;
use super::poller::Key;
use crate::executor::Fds;
use crate::executor::failure::{About, Failure, FailureKind, Fault};
use crate::executor::plan::{Fd, TerminalSize};
use crate::id::ContainerId;
use crate::monitor::protocol::{ContainerState, Reply, Request, VERSION};

impl Server {
    pub(super) fn request(&mut self, caller: Caller, request: Request, fds: Fds) {
        if let Request::Hello { version } = request {
            return self.greet(caller, version);
        }
        if self.clients.get(&caller.client).is_none_or(|client| !client.greeted) {
            return self.reply(caller, Err(wrong_state("the connection did not say hello")));
        }
        match request {
            // Answered above.
            Request::Hello { version } => self.greet(caller, version),
            Request::Subscribe => self.subscribe(caller),
            Request::SetUpPod(plan) => self.set_up_pod(caller, &plan, &fds),
            Request::OpenSocket(kind) => self.open_socket(caller, kind),
            Request::OpenUserNamespace(map) => self.open_user_namespace(caller, &map),
            Request::OpenShm => self.open_shm(caller),
            Request::Create { container, plan } => self.create(caller, container, *plan, fds),
            Request::Start { container } => self.start(caller, &container),
            Request::Kill { container, signal, scope } => {
                let result = self.kill(&container, signal, scope);
                self.reply(caller, result.map(|()| Reply::Done));
            }
            Request::Delete { container } => self.delete(caller, &container),
            Request::Exec(plan) => self.exec(caller, &plan),
            Request::KillExec { exec, signal, scope } => {
                let result = self.kill_exec(&exec, signal, scope);
                self.reply(caller, result.map(|()| Reply::Done));
            }
            Request::Attach { container, stdin, stdout, stderr } => {
                self.attach(caller, &container, Wanted { stdin, stdout, stderr });
            }
            Request::Resize { container, size } => {
                let result = self.resize(&container, size);
                self.reply(caller, result.map(|()| Reply::Done));
            }
            Request::ReopenLog { container } => {
                let result = self.reopen_log(&container, &fds);
                self.reply(caller, result.map(|()| Reply::Done));
            }
            Request::Criu { container, plan } => self.criu(caller, &container, &plan, &fds),
            Request::List => self.list(caller),
            Request::Shutdown => self.shut_down(caller),
        }
    }

    fn greet(&mut self, caller: Caller, version: u32) {
        if version != VERSION {
            let detail = format!("this monitor speaks version {VERSION}, the client {version}");
            return self.reply(caller, Err(Fault::invalid(detail).into_failure("say hello")));
        }
        if let Some(client) = self.clients.get_mut(&caller.client) {
            client.greeted = true;
        }
        self.reply(caller, Ok(Reply::Welcome { version: VERSION }));
    }

    fn subscribe(&mut self, caller: Caller) {
        if let Some(client) = self.clients.get_mut(&caller.client) {
            client.subscribed = true;
        }
        self.reply(caller, Ok(Reply::Done));
    }

    fn list(&mut self, caller: Caller) {
        let containers = self
            .containers
            .values()
            .filter_map(|container| {
                let state = container.state()?;
                Some(ContainerState { container: container.id.clone(), state })
            })
            .collect();
        self.reply(caller, Ok(Reply::Containers(containers)));
    }

    fn attach(&mut self, caller: Caller, id: &ContainerId, wanted: Wanted) {
        let client = self.new_key();
        let result = self.find(id).and_then(|key| {
            let Some((container, io)) = self.container_io(key) else { return Err(unknown(id)) };
            match container.phase {
                Phase::Created { .. }
                | Phase::Restored
                | Phase::Starting { .. }
                | Phase::Running { .. } => {}
                Phase::Creating { .. }
                | Phase::Doomed { .. }
                | Phase::Draining { .. }
                | Phase::Exited(_) => return Err(wrong_state("the container does not run")),
            }
            let streams = &mut container.streams;
            if container.terminal {
                streams.attach_terminal(io.poller, client, wanted)
            } else {
                streams.attach(io.poller, client, wanted)
            }
            .map_err(|errno| Fault::from(errno).into_failure("attach"))
        });
        match result {
            Ok(theirs) => self.reply_with(caller, Ok(Reply::Attached), theirs),
            Err(failure) => self.reply(caller, Err(failure)),
        }
    }

    fn resize(&mut self, id: &ContainerId, size: TerminalSize) -> Result<(), Failure> {
        let key = self.find(id)?;
        let container = self.containers.get(&key).ok_or_else(|| unknown(id))?;
        match &container.streams.stdout {
            Some(terminal) if container.terminal => crate::executor::resize(&terminal.fd, size)
                .map_err(|errno| Fault::from(errno).into_failure("resize the terminal")),
            Some(_) => Err(wrong_state("the container has no terminal")),
            None => Err(wrong_state("the container does not run")),
        }
    }

    /// The caller has made the new file; whoever renamed the old one finds it whole.
    fn reopen_log(&mut self, id: &ContainerId, fds: &Fds) -> Result<(), Failure> {
        let key = self.find(id)?;
        let file = fds
            .duplicate(Fd(0))
            .about("the new file")
            .map_err(|fault| fault.into_failure("reopen the log"))?;
        let container = self.containers.get_mut(&key).ok_or_else(|| unknown(id))?;
        match &mut container.streams.log {
            Some(log) => {
                log.reopen(file);
                Ok(())
            }
            None => Err(wrong_state("the container writes no log")),
        }
    }

    pub(super) fn find(&self, id: &ContainerId) -> Result<Key, Failure> {
        self.containers
            .iter()
            .find(|(_, container)| container.id == *id)
            .map(|(key, _)| *key)
            .ok_or_else(|| unknown(id))
    }
}

pub(super) fn unknown(id: &ContainerId) -> Failure {
    Fault::new(FailureKind::NotFound, format!("container {} is not here", id.short()))
        .into_failure("find the container")
}
