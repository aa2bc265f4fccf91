//! `compose run`: one command in a container of its own, with what its service has.

use std::io::{self, IsTerminal};

use cais_compose::{Project, Variables};
use clap::Args;
use serde_json::{Map, Value as Json, json};

use super::body::{self, Which};
use super::containers;
use super::converge::Act;
use super::images::Images;
use super::making::Making;
use super::resources::{self, text};
use super::{Files, api_socket, copied, failure, labels, references};
use crate::Cais;
use crate::client::Path;
use crate::commands::start::Start;
use crate::create::{binds, published};
use crate::error::{Failure, Result};
use crate::output;

/// Run a one-off command on a service
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are docker compose's flags")]
pub(super) struct Run {
    /// Build image before starting container
    #[arg(long)]
    build: bool,
    /// Add Linux capabilities
    #[arg(long)]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long)]
    cap_drop: Vec<String>,
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the entrypoint of the image
    #[arg(long)]
    entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long)]
    env: Vec<String>,
    /// Set environment variables from file
    #[arg(long)]
    env_from_file: Vec<String>,
    /// Keep STDIN open even if not attached; it is by default
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// Add or override a label
    #[arg(short, long)]
    label: Vec<String>,
    /// Assign a name to the container
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Disable pseudo-TTY allocation. By default a TTY is allocated on a terminal.
    #[arg(short = 'T', long = "no-TTY", alias = "no-tty")]
    no_tty: bool,
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
    /// Publish a container's port(s) to the host
    #[arg(short, long)]
    publish: Vec<String>,
    /// Pull image before running ("always"|"missing"|"never")
    #[arg(long, default_value = "", hide_default_value = true)]
    pull: String,
    /// Suppress progress output from the build process
    #[arg(long)]
    quiet_build: bool,
    /// Pull without printing progress information; nothing is printed but that it was pulled
    #[arg(long)]
    quiet_pull: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Automatically remove the container when it exits
    #[arg(long)]
    rm: bool,
    /// Run command with all service's ports enabled and mapped to the host
    #[arg(short = 'P', long)]
    service_ports: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Use the service's network aliases in the network(s) the container connects to
    #[arg(long)]
    use_aliases: bool,
    /// Run as specified username or uid
    #[arg(short, long, default_value = "", hide_default_value = true)]
    user: String,
    /// Bind mount a volume
    #[arg(short, long)]
    volume: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, default_value = "", hide_default_value = true)]
    workdir: String,
    /// Everything behind the service belongs to the command
    #[arg(required = true, trailing_var_arg = true, value_names = ["SERVICE", "COMMAND"])]
    words: Vec<String>,
}

impl Run {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let Some((service, command)) = self.words.split_first() else {
            return Err(Failure::new("a service is needed"));
        };
        if self.service_ports && !self.publish.is_empty() {
            return Err(Failure::new("--service-ports and --publish are incompatible"));
        }
        let named = std::slice::from_ref(service);
        let project = api_socket::project(cais, files, named)?;
        let making = Making {
            build: self.build,
            no_deps: self.no_deps,
            pull: self.pull.clone(),
            quiet_build: self.quiet_build,
            quiet_pull: self.quiet_pull,
            remove_orphans: self.remove_orphans,
            ..Making::default()
        };
        let mut act = Act::new(cais, &project, &making, named)?;
        act.order.retain(|it| it != service);
        // What others of the project run is no concern of one command.
        act.tells_of_orphans = false;
        act.make()?;
        act.start_all(&|| true)?;
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let tty = self.tty || is_terminal && !self.no_tty;
        let images = Images { cais, project: &project, making: &making };
        let image = images.ensure(&[service.as_str()])?.remove(service.as_str());
        resources::ensure(&act, &[service.as_str()])?;
        act.start_again()?;
        if !self.no_deps {
            act.order.push(service);
            let all = containers::of_project(cais, &project.name)?;
            act.wait_for_dependencies(service, &all, &|| true)?;
        }
        let id = self.create(cais, &project, &image.unwrap_or_default(), (command, tty))?;
        let outcome = if self.detach {
            let started = cais.client.post(Path::new(&["containers", &id, "start"]));
            started.and_then(|()| output::line(&id))
        } else {
            let start = Start {
                attach: true,
                detach_keys: String::new(),
                interactive: true,
                containers: vec![id.clone()],
            };
            start.run(cais)
        };
        // One that never ran removes itself neither.
        if self.rm && outcome.as_ref().is_err_and(|it| it.status.is_some()) {
            containers::discard(cais, &id);
        }
        outcome
    }

    fn create(
        &self,
        cais: &Cais,
        project: &Project,
        image_id: &str,
        (command, tty): (&[String], bool),
    ) -> Result<String> {
        let name = self.words.first().map_or("", String::as_str);
        let Some(service) = project.service(name) else {
            return Err(Failure::new(format!("no such service: {name}")));
        };
        let service = &references::resolved(cais, project, service)?;
        let slug = slug()?;
        let which = Which {
            service: name,
            number: 0,
            image: &project.image(name, "-"),
            image_id,
            hash: &cais_compose::service_hash(service),
            inherited: &[],
            replaces: None,
            is_pod: false,
        };
        let mut body = body::body(project, service, &which)?;
        self.process(project, &mut body, command, tty)?;
        self.host(project, &mut body)?;
        references::link(cais, project, service, &mut body)?;
        api_socket::place(cais, service, &mut body);
        let own = &mut body["Labels"];
        for label in &self.label {
            let Some((key, value)) = label.split_once('=') else {
                return Err(Failure::new("label must be set as KEY=VALUE"));
            };
            own[key] = value.into();
        }
        own[labels::ONE_OFF] = "True".into();
        own[labels::SLUG] = slug.as_str().into();
        if let Some(own) = own.as_object_mut() {
            own.remove(labels::NUMBER);
        }
        let short = slug.get(..12).unwrap_or(&slug);
        let container = match self.name.as_str() {
            "" => format!("{}-{name}-run-{short}", project.name),
            given => given.to_owned(),
        };
        let path = Path::new(&["containers", "create"])
            .with("name", &container)
            .with_text("platform", text(service, "platform"));
        copied::create(cais, project, name, path, &body)
    }

    fn process(
        &self,
        project: &Project,
        body: &mut Json,
        command: &[String],
        tty: bool,
    ) -> Result<()> {
        if let Some(entrypoint) = &self.entrypoint {
            let words = cais_compose::words(entrypoint).map_err(failure)?;
            // An empty one takes the image's away.
            body["Entrypoint"] = if words.is_empty() { json!([""]) } else { json!(words) };
            body["Cmd"] = json!([]);
        }
        if !command.is_empty() {
            body["Cmd"] = json!(command);
        }
        for (key, value) in [("User", &self.user), ("WorkingDir", &self.workdir)] {
            if !value.is_empty() {
                body[key] = value.as_str().into();
            }
        }
        let mut variables: Map<String, Json> = Map::new();
        for line in body["Env"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            let (key, value) =
                line.split_once('=').map_or((line, Json::Null), |(key, it)| (key, it.into()));
            variables.insert(key.to_owned(), value);
        }
        let own: Variables = self
            .env
            .iter()
            .filter_map(|given| match given.split_once('=') {
                Some((key, value)) => Some((key.to_owned(), value.to_owned())),
                None => Some((given.clone(), project.environment.get(given)?.clone())),
            })
            .collect();
        // What a flag sets wins, and what the first file does.
        let mut of_files = Variables::new();
        for file in self.env_from_file.iter().rev() {
            of_files.extend(cais_compose::variables_of(file, &own).map_err(failure)?);
        }
        let all = of_files.into_iter().chain(own);
        variables.extend(all.map(|(key, value)| (key, value.into())));
        let line = |(key, value): (&String, &Json)| match value.as_str() {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        };
        body["Env"] = variables.iter().map(line).collect();
        body["Tty"] = tty.into();
        body["OpenStdin"] = true.into();
        body["StdinOnce"] = true.into();
        body["AttachStdin"] = (!self.detach).into();
        Ok(())
    }

    fn host(&self, project: &Project, body: &mut Json) -> Result<()> {
        if !self.service_ports {
            let ports = published(&self.publish, &[]).map_err(Failure::new)?;
            body["ExposedPorts"] = ports.exposed;
            body["HostConfig"]["PortBindings"] = ports.bindings;
        }
        if !self.use_aliases
            && let Some(endpoints) = body["NetworkingConfig"]["EndpointsConfig"].as_object_mut()
        {
            for endpoint in endpoints.values_mut() {
                endpoint["Aliases"] = json!([]);
            }
        }
        let host = &mut body["HostConfig"];
        host["RestartPolicy"] = json!({});
        host["AutoRemove"] = self.rm.into();
        for (key, other, changes) in
            [("CapAdd", "CapDrop", &self.cap_add), ("CapDrop", "CapAdd", &self.cap_drop)]
        {
            for change in changes {
                if let Some(list) = host[other].as_array_mut() {
                    list.retain(|it| it.as_str() != Some(change));
                }
                match host[key].as_array_mut() {
                    Some(list) => list.push(change.as_str().into()),
                    None => host[key] = json!([change]),
                }
            }
        }
        // A volume of the project has the project's name before its own.
        let named = |given: &String| match given.split_once(':') {
            Some((source, rest)) => match project.resource("volumes", source) {
                Some(volume) => format!("{}:{rest}", text(volume, "name")),
                None => given.clone(),
            },
            None => given.clone(),
        };
        let given: Vec<String> = self.volume.iter().map(named).collect();
        let volumes = binds(&given).map_err(Failure::new)?;
        host["Binds"] = json!(volumes.binds);
        body["Volumes"] = volumes.anonymous;
        Ok(())
    }
}

/// 64 hexadecimal digits that nobody else has.
fn slug() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
