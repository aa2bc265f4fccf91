"""What a project's tests do with testcontainers; its wheel has no tests of its own. Run by hack/clients."""

import urllib.request

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.waiting_utils import wait_for_logs


def page(container, port):
    host, public = container.get_container_host_ip(), container.get_exposed_port(port)
    with urllib.request.urlopen(f"http://{host}:{public}/", timeout=30) as answer:
        return answer.read().decode()


def test_a_published_port_is_found_and_answers():
    with DockerContainer("nginx").with_exposed_ports(80) as web:
        for _ in range(200):
            try:
                assert "Welcome to nginx!" in page(web, 80)
                return
            except OSError:
                web.get_wrapped_container().reload()
        pytest.fail("no answer")


def test_logs_are_waited_for():
    with DockerContainer("busybox").with_command("sh -c 'echo one >&2; echo ready; sleep 1000'") as told:
        wait_for_logs(told, "ready", timeout=60)
        stdout, stderr = told.get_logs()
        assert (stdout, stderr) == (b"ready\n", b"one\n")


def test_a_command_is_executed_with_its_environment():
    with DockerContainer("busybox").with_command("sleep 1000").with_env("PLACE", "quay") as box:
        assert box.exec("sh -c 'echo $PLACE; exit 4'") == (4, b"quay\n")


def test_a_directory_is_mounted(tmp_path):
    (tmp_path / "index.html").write_text("from the host")
    box = DockerContainer("busybox").with_volume_mapping(str(tmp_path), "/page", "ro")
    with box.with_command("sleep 1000") as box:
        assert box.exec("cat /page/index.html").output == b"from the host"
        assert box.exec("touch /page/x").exit_code != 0


def test_a_network_connects_and_is_removed():
    with Network() as network:
        with DockerContainer("busybox").with_command("sleep 1000").with_network(network) as box:
            container = box.get_wrapped_container()
            container.reload()
            assert network.name in container.attrs["NetworkSettings"]["Networks"]
            assert box.get_docker_client().client.networks.list(names=[network.name])


def test_a_name_on_a_network_is_resolved():
    with Network() as network:
        first = DockerContainer("busybox").with_command("sleep 1000")
        with first.with_network(network).with_network_aliases("quay"):
            with DockerContainer("busybox").with_command("sleep 1000").with_network(network) as box:
                assert box.exec("ping -c 1 quay").exit_code == 0


def test_nothing_is_left_of_a_container():
    with DockerContainer("busybox").with_command("sleep 1000") as box:
        client, name = box.get_docker_client().client, box.get_wrapped_container().id
    assert name not in [found.id for found in client.containers.list(all=True)]
