//! All verbs, alone and in their groups.

use clap::Subcommand;

use super::complete::{Completion, Man};
use crate::Cais;
use crate::commands::inspect::Kind;
use crate::commands::prune::Subject;
use crate::commands::{
    archive, build, commit, contexts, cp, df, events, exec, history, images, info, inside, inspect,
    lifecycle, login, logs, network, ports, prune, ps, pull, run, start, stats, tags, update,
    version, volume,
};
use crate::compose::Compose;
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(Box<run::Run>),
    Exec(exec::Exec),
    Ps(ps::Ps),
    Pull(pull::Pull),
    Push(pull::Push),
    Images(images::Images),
    Login(login::Login),
    Logout(login::Logout),
    Version(version::Version),
    Info(info::Info),
    /// Manage containers
    #[command(subcommand)]
    Container(Box<ContainerVerb>),
    /// Manage images
    #[command(subcommand)]
    Image(ImageVerb),
    /// Manage networks
    #[command(subcommand)]
    Network(NetworkVerb),
    /// Manage Cais
    #[command(subcommand)]
    System(SystemVerb),
    /// Manage volumes
    #[command(subcommand)]
    Volume(VolumeVerb),
    Attach(start::Attach),
    Commit(commit::Commit),
    Cp(cp::Cp),
    Create(Box<run::Create>),
    Diff(inside::Diff),
    Events(events::Events),
    Export(archive::Export),
    History(history::History),
    Import(archive::Import),
    Inspect(inspect::Inspect),
    Kill(lifecycle::Kill),
    Load(archive::Load),
    Logs(logs::Logs),
    /// Pause all processes within one or more containers
    Pause(lifecycle::Pause),
    Port(ports::PortOf),
    Rename(lifecycle::Rename),
    Restart(lifecycle::Restart),
    Rm(lifecycle::Rm),
    Rmi(tags::Rmi),
    Save(archive::Save),
    Start(start::Start),
    Stats(stats::Stats),
    Stop(lifecycle::Stop),
    Tag(tags::Tag),
    Top(inside::Top),
    /// Unpause all processes within one or more containers
    Unpause(lifecycle::Pause),
    Update(update::Update),
    Wait(lifecycle::Wait),
    Completion(Completion),
    Man(Man),
    Build(Box<build::Build>),
    /// Manage builds
    #[command(subcommand, alias = "buildx")]
    Builder(BuilderVerb),
    Compose(Box<Compose>),
    /// Manage contexts, of which there is one
    #[command(subcommand)]
    Context(ContextVerb),
}

impl Verb {
    pub(crate) fn run(self, cais: &Cais) -> Result<()> {
        match self {
            Self::Run(it) => it.run(cais),
            Self::Exec(it) => it.run(cais),
            Self::Ps(it) => it.run(cais),
            Self::Pull(it) => it.run(cais),
            Self::Push(it) => it.run(cais),
            Self::Images(it) => it.run(cais),
            Self::Login(it) => it.run(cais),
            Self::Logout(it) => it.run(cais),
            Self::Version(it) => it.run(cais),
            Self::Info(it) => it.run(cais),
            Self::Container(it) => it.run(cais),
            Self::Image(it) => it.run(cais),
            Self::Network(it) => it.run(cais),
            Self::System(it) => it.run(cais),
            Self::Volume(it) => it.run(cais),
            Self::Attach(it) => it.run(cais),
            Self::Commit(it) => it.run(cais),
            Self::Cp(it) => it.run(cais),
            Self::Create(it) => it.run(cais),
            Self::Diff(it) => it.run(cais),
            Self::Events(it) => it.run(cais),
            Self::Export(it) => it.run(cais),
            Self::History(it) => it.run(cais),
            Self::Import(it) => it.run(cais),
            Self::Inspect(it) => it.run(cais),
            Self::Kill(it) => it.run(cais),
            Self::Load(it) => it.run(cais),
            Self::Logs(it) => it.run(cais),
            Self::Pause(it) => it.run(cais, "pause"),
            Self::Port(it) => it.run(cais),
            Self::Rename(it) => it.run(cais),
            Self::Restart(it) => it.run(cais),
            Self::Rm(it) => it.run(cais),
            Self::Rmi(it) => it.run(cais),
            Self::Save(it) => it.run(cais),
            Self::Start(it) => it.run(cais),
            Self::Stats(it) => it.run(cais),
            Self::Stop(it) => it.run(cais),
            Self::Tag(it) => it.run(cais),
            Self::Top(it) => it.run(cais),
            Self::Unpause(it) => it.run(cais, "unpause"),
            Self::Update(it) => it.run(cais),
            Self::Wait(it) => it.run(cais),
            Self::Completion(it) => it.run(cais),
            Self::Man(it) => it.run(cais),
            Self::Build(it) => it.run(cais),
            Self::Builder(it) => it.run(cais),
            Self::Compose(it) => it.run(cais),
            Self::Context(it) => it.run(cais),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContainerVerb {
    Attach(start::Attach),
    Commit(commit::Commit),
    Cp(cp::Cp),
    Create(Box<run::Create>),
    Diff(inside::Diff),
    Exec(exec::Exec),
    Export(archive::Export),
    Inspect(inspect::InspectContainer),
    Kill(lifecycle::Kill),
    Logs(logs::Logs),
    #[command(alias = "list", alias = "ps")]
    Ls(ps::Ps),
    /// Pause all processes within one or more containers
    Pause(lifecycle::Pause),
    Port(ports::PortOf),
    /// Remove all stopped containers
    Prune(prune::Prune),
    Rename(lifecycle::Rename),
    Restart(lifecycle::Restart),
    #[command(alias = "remove")]
    Rm(lifecycle::Rm),
    Run(Box<run::Run>),
    Start(start::Start),
    Stats(stats::Stats),
    Stop(lifecycle::Stop),
    Top(inside::Top),
    /// Unpause all processes within one or more containers
    Unpause(lifecycle::Pause),
    Update(update::Update),
    Wait(lifecycle::Wait),
}

impl ContainerVerb {
    fn run(self, cais: &Cais) -> Result<()> {
        match self {
            Self::Attach(it) => it.run(cais),
            Self::Commit(it) => it.run(cais),
            Self::Cp(it) => it.run(cais),
            Self::Create(it) => it.run(cais),
            Self::Diff(it) => it.run(cais),
            Self::Exec(it) => it.run(cais),
            Self::Export(it) => it.run(cais),
            Self::Inspect(it) => it.run(cais),
            Self::Kill(it) => it.run(cais),
            Self::Logs(it) => it.run(cais),
            Self::Ls(it) => it.run(cais),
            Self::Pause(it) => it.run(cais, "pause"),
            Self::Port(it) => it.run(cais),
            Self::Prune(it) => it.run(cais, Subject::Containers),
            Self::Rename(it) => it.run(cais),
            Self::Restart(it) => it.run(cais),
            Self::Rm(it) => it.run(cais),
            Self::Run(it) => it.run(cais),
            Self::Start(it) => it.run(cais),
            Self::Stats(it) => it.run(cais),
            Self::Stop(it) => it.run(cais),
            Self::Top(it) => it.run(cais),
            Self::Unpause(it) => it.run(cais, "unpause"),
            Self::Update(it) => it.run(cais),
            Self::Wait(it) => it.run(cais),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum BuilderVerb {
    Build(Box<build::Build>),
    #[command(subcommand)]
    Cache(archive::CacheVerb),
    /// Remove build cache
    Prune(prune::PruneBuilds),
}

impl BuilderVerb {
    fn run(self, cais: &Cais) -> Result<()> {
        match self {
            Self::Build(it) => it.run(cais),
            Self::Cache(it) => it.run(cais),
            Self::Prune(it) => it.run(cais),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextVerb {
    Inspect(contexts::InspectContexts),
    #[command(alias = "list")]
    Ls(contexts::ListContexts),
    Show(contexts::ShowContext),
    Use(contexts::UseContext),
}

impl ContextVerb {
    fn run(self, cais: &Cais) -> Result<()> {
        match self {
            Self::Inspect(it) => it.run(cais),
            Self::Ls(it) => it.run(cais),
            Self::Show(it) => it.run(),
            Self::Use(it) => it.run(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    Build(Box<build::Build>),
    History(history::History),
    Import(archive::Import),
    /// Display detailed information on one or more images
    Inspect(inspect::InspectKind),
    Load(archive::Load),
    #[command(alias = "list")]
    Ls(images::Images),
    /// Remove unused images
    Prune(prune::PruneAll),
    Pull(pull::Pull),
    Push(pull::Push),
    #[command(alias = "remove")]
    Rm(tags::Rmi),
    Save(archive::Save),
    Tag(tags::Tag),
}

impl ImageVerb {
    fn run(self, cais: &Cais) -> Result<()> {
        match self {
            Self::Build(it) => it.run(cais),
            Self::History(it) => it.run(cais),
            Self::Import(it) => it.run(cais),
            Self::Inspect(it) => it.run(cais, Kind::Image),
            Self::Load(it) => it.run(cais),
            Self::Ls(it) => it.run(cais),
            Self::Prune(it) => it.run(cais, Subject::Images),
            Self::Pull(it) => it.run(cais),
            Self::Push(it) => it.run(cais),
            Self::Rm(it) => it.run(cais),
            Self::Save(it) => it.run(cais),
            Self::Tag(it) => it.run(cais),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkVerb {
    Connect(network::Connect),
    Create(network::CreateNetwork),
    Disconnect(network::Disconnect),
    Inspect(inspect::InspectNetwork),
    #[command(alias = "list")]
    Ls(network::ListNetworks),
    /// Remove all unused networks
    Prune(prune::Prune),
    #[command(alias = "remove")]
    Rm(network::RemoveNetworks),
}

impl NetworkVerb {
    fn run(self, cais: &Cais) -> Result<()> {
        match self {
            Self::Connect(it) => it.run(cais),
            Self::Create(it) => it.run(cais),
            Self::Disconnect(it) => it.run(cais),
            Self::Inspect(it) => it.run(cais),
            Self::Ls(it) => it.run(cais),
            Self::Prune(it) => it.run(cais, Subject::Networks),
            Self::Rm(it) => it.run(cais),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeVerb {
    Create(volume::CreateVolume),
    /// Display detailed information on one or more volumes
    Inspect(inspect::InspectKind),
    #[command(alias = "list")]
    Ls(volume::ListVolumes),
    /// Remove unused local volumes
    Prune(prune::PruneAll),
    #[command(alias = "remove")]
    Rm(volume::RemoveVolumes),
}

impl VolumeVerb {
    fn run(self, cais: &Cais) -> Result<()> {
        match self {
            Self::Create(it) => it.run(cais),
            Self::Inspect(it) => it.run(cais, Kind::Volume),
            Self::Ls(it) => it.run(cais),
            Self::Prune(it) => it.run(cais, Subject::Volumes),
            Self::Rm(it) => it.run(cais),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum SystemVerb {
    Df(df::Df),
    Events(events::Events),
    Info(info::Info),
    Prune(prune::PruneSystem),
}

impl SystemVerb {
    fn run(self, cais: &Cais) -> Result<()> {
        match self {
            Self::Df(it) => it.run(cais),
            Self::Events(it) => it.run(cais),
            Self::Info(it) => it.run(cais),
            Self::Prune(it) => it.run(cais),
        }
    }
}
