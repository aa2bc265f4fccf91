//! What a new process does between fork and `execve`: one table for a container's first process
//! and for an exec, so that neither can forget a part of the confinement.
//!
//! The order is a security contract. A row that must keep its place says why; the others may move.
//! No logging here: an error travels to the monitor through the handshake, with the row's name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::failure::{Failure, Fault};
use super::plan::{ContainerPlan, Process};
use super::root::Root;
use super::users::PodUsers;
use super::{
    Fds, Surroundings, capabilities, cgroups, devices, handshake, hide, limits, lsm, mounts,
    program, rootfs, seccomp, session, stage, terminal, user, users, verify,
};

/// The child's view of its task. A step leaves something for another only in a named field.
pub(super) struct Init<'a> {
    pub(super) process: &'a Process,
    /// `None` for an exec.
    pub(super) container: Option<Container<'a>>,
    /// The container's first process, for an exec.
    pub(super) target: Option<BorrowedFd<'a>>,
    pub(super) around: Surroundings<'a>,
    /// The child's end of the handshake; set right after the fork.
    pub(super) link: Option<OwnedFd>,
    /// The terminal's master, on its way to the monitor.
    pub(super) master: Option<OwnedFd>,
    /// `/proc/self/status`, opened while proc is at hand, read when all is applied.
    pub(super) status: Option<OwnedFd>,
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Copy)]
pub(super) struct Container<'a> {
    pub(super) plan: &'a ContainerPlan,
    pub(super) fds: &'a Fds,
}

type Step = (&'static str, fn(&Init<'_>) -> bool, fn(&mut Init<'_>) -> Result<(), Fault>);

const STEPS: &[Step] = &[
    // First: nothing of the monitor's may be reachable from the namespaces entered below.
    ("close inherited descriptors", always, session::close_inherited),
    ("start a session", always, session::start),
    // Before anything is allocated on the container's account, and before the cgroup namespace,
    // whose root is the cgroup of this moment.
    ("join the cgroup", always, cgroups::join),
    // These need powers over the host, which end at the user namespace.
    ("set the OOM score", always, limits::set_oom_score),
    ("raise resource limits", has_users, limits::raise_rlimits),
    ("give the streams to the user", |init| !has_terminal(init), session::give_streams),
    // Before the first mount, so that none can travel to another namespace.
    ("make mounts private", is_init, rootfs::make_private),
    ("lay out what the host gives", |init| is_init(init) && has_users(init), stage::lay_out),
    // Before any namespace that it is to own.
    ("enter the user namespace", has_users, users::enter),
    ("fork inside", |init| is_init(init) && has_users(init), users::fork_inside),
    (
        "enter a cgroup namespace",
        |init| is_init(init) && !has_users(init) && wants_cgroup_namespace(init),
        cgroups::unshare,
    ),
    (
        "join the container's namespaces",
        |init| is_exec(init) && !has_users(init),
        session::join_namespaces,
    ),
    ("attach the rootfs", is_init, rootfs::attach),
    ("mount", is_init, mounts::attach_all),
    // On /dev, which is one of the mounts.
    ("make device", is_init, devices::make),
    ("make link", is_init, devices::link),
    // After all mounts: the paths named lie on them.
    ("mask", is_init, hide::mask),
    ("make read-only", is_init, hide::make_read_only),
    // Before the root turns read-only.
    ("make the working directory", is_init, rootfs::make_working_directory),
    ("pivot into the rootfs", is_init, rootfs::pivot),
    // In the container's devpts, so after the pivot; before the root turns read-only, because
    // /dev/console may have to be made.
    ("attach the terminal", has_terminal, terminal::attach),
    ("connect the streams", |init| !has_terminal(init), session::connect_streams),
    ("make the rootfs read-only", has_read_only_root, rootfs::make_read_only),
    // After the pivot, which refuses a shared root.
    ("set the propagation of the rootfs", is_init, rootfs::set_propagation),
    ("enter the working directory", always, rootfs::enter_working_directory),
    // These write to proc or need a capability: before the switch of user.
    ("set the security label", always, lsm::set_exec_label),
    ("set resource limits", always, limits::set_rlimits),
    ("open the status", always, verify::open_status),
    // Here and not with the rest below: a filter that is loaded early may forbid the calls.
    ("verify the user namespace", has_users, users::verify),
    ("set no_new_privs", |init| init.process.no_new_privileges, seccomp::lock_privileges),
    // Without no_new_privs only CAP_SYS_ADMIN may load a filter: do it while we have it.
    ("load the seccomp filter", |init| !init.process.no_new_privileges, seccomp::load),
    // Dropping from the bounding set needs CAP_SETPCAP, which the switch of user may lose.
    ("drop the capability bound", always, capabilities::drop_bound),
    ("switch user", always, user::switch),
    ("set capabilities", always, capabilities::set),
    // After the credentials, whose change clears it.
    ("die with the monitor", always, session::die_with_monitor),
    ("verify the confinement", always, verify::confinement),
    // Before the wait, during which others in a shared PID namespace may look at us.
    ("close descriptors", always, session::close_all_but_link),
    ("report", always, report_ready),
    ("wait for the start", is_init, wait_for_start),
    // Last with no_new_privs: the filter then need not allow any call above.
    ("load the seccomp filter", |init| init.process.no_new_privileges, seccomp::load),
    ("verify seccomp", |init| init.process.no_new_privileges, verify::seccomp),
    ("execute", always, program::execute),
];

impl<'a> Init<'a> {
    pub(super) fn of_container(
        plan: &'a ContainerPlan,
        fds: &'a Fds,
        around: Surroundings<'a>,
    ) -> Self {
        let container = Some(Container { plan, fds });
        Self { container, ..Self::new(&plan.process, around) }
    }

    pub(super) fn of_exec(
        process: &'a Process,
        target: BorrowedFd<'a>,
        around: Surroundings<'a>,
    ) -> Self {
        Self { target: Some(target), ..Self::new(process, around) }
    }

    fn new(process: &'a Process, around: Surroundings<'a>) -> Self {
        Self {
            process,
            container: None,
            target: None,
            around,
            link: None,
            master: None,
            status: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn container(&self) -> Result<Container<'a>, Fault> {
        self.container.ok_or_else(|| Fault::internal("an exec has no container plan"))
    }

    /// The container's root as it is mounted, before the pivot.
    pub(super) fn root(&self) -> Result<Root<'a>, Fault> {
        let Container { plan, fds } = self.container()?;
        Ok(Root::new(fds.get(plan.rootfs)?))
    }

    pub(super) fn users(&self) -> Result<&'a PodUsers, Fault> {
        self.around.users.ok_or_else(|| Fault::internal("the pod has no user namespace"))
    }

    pub(super) fn link(&self) -> Result<BorrowedFd<'_>, Fault> {
        self.link.as_ref().map(AsFd::as_fd).ok_or_else(|| Fault::internal("no handshake"))
    }
}

/// Runs the table; returns only with an error, since the last row does not return.
pub(super) fn run(init: &mut Init<'_>) -> Result<(), Failure> {
    for (name, applies, step) in STEPS {
        if applies(init) {
            step(init).map_err(|fault| fault.into_failure(name))?;
        }
    }
    Ok(())
}

fn always(_: &Init<'_>) -> bool {
    true
}

fn is_init(init: &Init<'_>) -> bool {
    init.container.is_some()
}

fn is_exec(init: &Init<'_>) -> bool {
    init.container.is_none()
}

fn has_terminal(init: &Init<'_>) -> bool {
    init.process.terminal.is_some()
}

fn has_users(init: &Init<'_>) -> bool {
    init.around.users.is_some()
}

fn wants_cgroup_namespace(init: &Init<'_>) -> bool {
    init.container.is_some_and(|container| container.plan.cgroup_namespace)
}

fn has_read_only_root(init: &Init<'_>) -> bool {
    init.container.is_some_and(|container| container.plan.readonly_rootfs)
}

fn report_ready(init: &mut Init<'_>) -> Result<(), Fault> {
    let notes = std::mem::take(&mut init.notes);
    handshake::report_ready(init.link()?, notes, init.master.as_ref())?;
    init.master = None;
    Ok(())
}

fn wait_for_start(init: &mut Init<'_>) -> Result<(), Fault> {
    handshake::wait_for_start(init.link()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> usize {
        STEPS
            .iter()
            .position(|(step, ..)| *step == name)
            .unwrap_or_else(|| panic!("no step {name}"))
    }

    fn last_place(name: &str) -> usize {
        STEPS.iter().rposition(|(step, ..)| *step == name).unwrap()
    }

    #[test]
    fn the_order_of_the_security_contract_holds() {
        for (before, after) in [
            ("close inherited descriptors", "join the container's namespaces"),
            ("join the cgroup", "enter a cgroup namespace"),
            ("make mounts private", "lay out what the host gives"),
            ("make mounts private", "attach the rootfs"),
            ("join the cgroup", "enter the user namespace"),
            ("set the OOM score", "enter the user namespace"),
            ("give the streams to the user", "enter the user namespace"),
            ("lay out what the host gives", "enter the user namespace"),
            ("enter the user namespace", "fork inside"),
            ("fork inside", "attach the rootfs"),
            ("verify the user namespace", "load the seccomp filter"),
            ("mount", "make device"),
            ("mount", "mask"),
            ("mask", "pivot into the rootfs"),
            ("make read-only", "pivot into the rootfs"),
            ("make the working directory", "make the rootfs read-only"),
            ("pivot into the rootfs", "enter the working directory"),
            ("set no_new_privs", "load the seccomp filter"),
            ("load the seccomp filter", "switch user"),
            ("drop the capability bound", "switch user"),
            ("switch user", "set capabilities"),
            ("set capabilities", "die with the monitor"),
            ("set capabilities", "verify the confinement"),
            ("verify the confinement", "report"),
            ("close descriptors", "wait for the start"),
            ("wait for the start", "execute"),
        ] {
            assert!(place(before) < place(after), "{before} must come before {after}");
        }
        assert!(last_place("load the seccomp filter") > place("wait for the start"));
        assert_eq!(place("execute"), STEPS.len() - 1);
    }
}
