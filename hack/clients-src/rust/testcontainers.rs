//! What a project's tests do with testcontainers for Rust. Its own tests build a server in Rust with BuildKit and pull from
//! Docker's hub. Run by hack/clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use testcontainers::core::wait::ExitWaitStrategy;
use testcontainers::core::{
    AccessMode, CmdWaitFor, ContainerPort, ExecCommand, Healthcheck, Host, IntoContainerPort,
    Mount, WaitFor,
};
use testcontainers::runners::SyncRunner;
use testcontainers::{Container, ContainerRequest, GenericImage, ImageExt};

const WEB: ContainerPort = ContainerPort::Tcp(80);

fn busybox() -> GenericImage {
    GenericImage::new("busybox", "latest")
}

fn shell(image: GenericImage, script: &str) -> ContainerRequest<GenericImage> {
    image.with_cmd(["sh", "-c", script])
}

fn sleeping() -> ContainerRequest<GenericImage> {
    busybox().with_cmd(["sleep", "1000"])
}

/// Its standard output, when it ends with 0.
fn said(container: &Container<GenericImage>, script: &str) -> String {
    let command =
        ExecCommand::new(["sh", "-c", script]).with_cmd_ready_condition(CmdWaitFor::exit_code(0));
    let mut done = container.exec(command).unwrap();
    String::from_utf8(done.stdout_to_vec().unwrap()).unwrap().trim_end().to_owned()
}

fn page(host: &str, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((host, port))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn a_published_port_is_found_and_answers() {
    let web = GenericImage::new("nginx", "latest").with_exposed_port(WEB).start().unwrap();
    let (host, port) =
        (web.get_host().unwrap().to_string(), web.get_host_port_ipv4(80.tcp()).unwrap());
    for _ in 0..300 {
        if page(&host, port).is_ok_and(|text| text.contains("Welcome to nginx!")) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("no answer");
}

#[test]
fn a_port_of_ones_choice_is_mapped() {
    let web = busybox().with_mapped_port(0, WEB).with_cmd(["sleep", "1000"]).start().unwrap();
    let ports = web.ports().unwrap();
    assert_eq!(ports.map_to_host_port_ipv4(WEB), Some(web.get_host_port_ipv4(WEB).unwrap()));
    assert!(web.get_host_port_ipv4(81).is_err());
}

#[test]
fn lines_of_both_streams_are_waited_for() {
    let image = busybox()
        .with_wait_for(WaitFor::message_on_stdout("ready"))
        .with_wait_for(WaitFor::message_on_stderr("one"));
    let told = shell(image, "echo one >&2; echo ready; sleep 1000").start().unwrap();
    assert_eq!(told.stdout_to_vec().unwrap(), b"ready\n");
    assert_eq!(told.stderr_to_vec().unwrap(), b"one\n");
    assert!(told.is_running().unwrap());
}

#[test]
fn a_line_that_never_comes_is_an_error_when_the_container_ends() {
    let image = busybox().with_wait_for(WaitFor::message_on_stdout("ready"));
    let error = shell(image, "echo something else").start().unwrap_err();
    assert!(
        error.to_string().to_lowercase().contains("end of stream")
            || error.to_string().contains("log"),
        "{error}"
    );
}

#[test]
fn an_end_is_waited_for_with_its_code() {
    let image = busybox().with_wait_for(WaitFor::exit(ExitWaitStrategy::new().with_exit_code(3)));
    let over = shell(image, "exit 3").start().unwrap();
    assert_eq!((over.is_running().unwrap(), over.exit_code().unwrap()), (false, Some(3)));
}

#[test]
fn health_is_waited_for() {
    let check = Healthcheck::cmd_shell("test -e /well")
        .with_interval(Duration::from_millis(100))
        .with_retries(100);
    let image = busybox().with_wait_for(WaitFor::healthcheck());
    let well = shell(image, "sleep 0.3; touch /well; sleep 1000")
        .with_health_check(check)
        .start()
        .unwrap();
    assert_eq!(said(&well, "ls /well"), "/well");
}

#[test]
fn a_command_is_executed_with_its_environment_and_its_code() {
    let user = sleeping()
        .with_env_var("PLACE", "quay")
        .with_user("12")
        .with_working_dir("/tmp")
        .with_hostname("ship");
    let user = user.start().unwrap();
    assert_eq!(said(&user, "echo $PLACE; id -u; pwd; hostname"), "quay\n12\n/tmp\nship");
    let command = ExecCommand::new(["sh", "-c", "echo no >&2; exit 4"])
        .with_cmd_ready_condition(CmdWaitFor::exit());
    let mut done = user.exec(command).unwrap();
    assert_eq!(done.exit_code().unwrap(), Some(4));
    assert_eq!(done.stderr_to_vec().unwrap(), b"no\n");
    let waited = ExecCommand::new(["sh", "-c", "echo first; sleep 0.1; echo ready; sleep 1000"]);
    user.exec(waited.with_cmd_ready_condition(CmdWaitFor::message_on_stdout("ready"))).unwrap();
}

#[test]
fn files_are_copied_both_ways() {
    let box_ = sleeping().with_copy_to("/made/for/it", b"in".to_vec()).start().unwrap();
    assert_eq!(said(&box_, "cat /made/for/it; echo -n out >/back"), "in");
    let mut back = Vec::new();
    box_.copy_file_from("/back", &mut back).unwrap();
    assert_eq!(back, b"out");
    assert!(box_.copy_file_from("/not-there", &mut Vec::new()).is_err());
    assert!(box_.copy_file_from("/etc", &mut Vec::new()).is_err());
}

#[test]
fn directories_volumes_and_tmpfs_are_mounted() {
    let directory = std::env::temp_dir().join(format!("clients-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("page"), "from the host").unwrap();
    let bind = Mount::bind_mount(directory.to_str().unwrap(), "/bind")
        .with_access_mode(AccessMode::ReadOnly);
    let request =
        sleeping().with_mount(bind).with_mount(Mount::volume_mount("clients-kept", "/kept"));
    let mounted =
        request.with_mount(Mount::tmpfs_mount("/quick").with_size_bytes(1 << 20)).start().unwrap();
    assert_eq!(
        said(&mounted, "cat /bind/page; touch /bind/x 2>/dev/null || echo; echo kept >/kept/x"),
        "from the host"
    );
    assert_eq!(said(&mounted, "grep -o ' /quick tmpfs.*size=1024k' /proc/mounts | wc -l"), "1");
    mounted.rm().unwrap();
    let next = sleeping().with_mount(Mount::volume_mount("clients-kept", "/kept")).start().unwrap();
    assert_eq!(said(&next, "cat /kept/x"), "kept");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_network_is_made_for_containers_that_name_it() {
    let place = "clients-quay";
    let ship = sleeping().with_network(place).with_container_name("clients-ship").start().unwrap();
    let other = sleeping().with_network(place).start().unwrap();
    assert_eq!(said(&other, "ping -c 1 clients-ship >/dev/null && echo there"), "there");
    assert!(ship.get_bridge_ip_address().unwrap().is_ipv4());
}

#[test]
fn limits_and_confinement_are_asked_for() {
    let request = sleeping()
        .with_ulimit("nofile", 77, Some(99))
        .with_cap_drop("ALL")
        .with_readonly_rootfs(true);
    let request = request.with_shm_size(1 << 20).with_host("far", Host::HostGateway);
    let held =
        request.with_label("of", "clients").with_security_opt("no-new-privileges").start().unwrap();
    let shown = said(
        &held,
        "ulimit -n; grep CapEff /proc/self/status | cut -f 2; touch /x 2>&1 | grep -o Read-only",
    );
    assert_eq!(shown, "77\n0000000000000000\nRead-only");
    assert_eq!(
        said(&held, "grep -c far$ /etc/hosts; grep -o 'shm.*size=1024k' /proc/mounts | wc -l"),
        "1\n1"
    );
}

#[test]
fn a_container_is_stopped_and_started_again() {
    let again = shell(busybox(), "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")
        .start()
        .unwrap();
    let mut told = again.stdout(true);
    let mut line = [0; 3];
    told.read_exact(&mut line).unwrap();
    again.stop().unwrap();
    assert_eq!((again.is_running().unwrap(), again.exit_code().unwrap()), (false, Some(5)));
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    again.start().unwrap();
    assert!(again.is_running().unwrap());
}
