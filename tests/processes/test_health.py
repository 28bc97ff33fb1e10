"""TERM behind a balancer: nobody is sent to a server that ends, and nobody notices that one has."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.http.test_proxies import program
from tests.ports import free_port
from tests.processes import procfs
from tests.processes.events import eventually
from tests.processes.http import Address, Load, request
from tests.processes.server import Server
from tests.processes.test_metrics import status_address

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option httpchk GET /readyz
    default-server check inter 300ms fall 2 rise 1
frontend site
    bind 127.0.0.1:{port}
    default_backend shops
backend shops
    balance roundrobin
    server one 127.0.0.1:{one} port {one_status}
    server two 127.0.0.1:{two} port {two_status}
"""


def ready_status(server: Server) -> Address:
    """Where the status process is asked, once it says that the server is ready: it learns so after the log does."""
    status = status_address(server)
    eventually(lambda: request(status, "/readyz").status == 200, "it is ready")
    return status


@contextmanager
def haproxy(folder: Path, ports: dict[str, int]) -> Iterator[Address]:
    """A balancer in front of two servers."""
    file = folder / "haproxy.cfg"
    file.write_text(HAPROXY.format(**ports))
    with subprocess.Popen([program("haproxy"), "-f", str(file)], stderr=subprocess.DEVNULL) as process:
        try:
            address = Address(f"127.0.0.1:{ports['port']}")

            def answers() -> bool:
                try:
                    return request(address, "/debug/pid").status == 200
                except OSError:
                    return False

            eventually(answers, "HAProxy has found a server")
            yield address
        finally:
            process.kill()


@pytest.mark.slow
def test_two_instances_behind_haproxy_are_restarted_without_a_failed_request(
    make_server: Callable[[], Server], scratch: Path
) -> None:
    names = ("one", "two")
    ports = {name: free_port() for name in ("port", *names, *(f"{name}_status" for name in names))}

    def start(name: str) -> Server:
        server = make_server()
        return server.start(
            workers=1,
            bind=f"127.0.0.1:{ports[name]}",
            status_bind=f"127.0.0.1:{ports[f'{name}_status']}",
            shutdown_delay=3,
        )

    running = {name: start(name) for name in names}
    with haproxy(scratch, ports) as address, Load(address, clients=6) as load:
        load.wait_for_answers()
        for name in names:
            other = running[names[1 - names.index(name)]]
            load.wait_for_answers(30)
            assert running[name].stop() == 0
            load.wait_for_answers(30)
            running[name] = start(name)
            ready_status(running[name])
            before = len(load.pids)
            eventually(lambda seen=before: len(load.pids) > seen, "HAProxy sends it requests")  # type: ignore[misc]
            assert other.process.poll() is None
        load.stop()
    load.assert_nothing_lost()
    assert load.refused == 0
    for server in running.values():
        server.interrupt()  # at once: nobody has to be told any more
        assert server.wait() == 0


def test_readiness_ends_with_term_and_service_goes_on(server: Server) -> None:
    server.start(status_bind="127.0.0.1:0", shutdown_delay=2)
    status = ready_status(server)
    with server.load() as load:
        load.wait_for_answers()
        mark = server.term()
        server.wait_for("stop_delayed", since=mark)
        eventually(lambda: request(status, "/readyz").body == b"stopping\n", "balancers are told")
        assert request(status, "/livez").status == 200
        load.wait_for_answers(30)
        assert server.events("stopping") == []
        server.wait_for("stopping", since=mark)
        load.stop()
    load.assert_nothing_lost()
    assert server.wait() == 0


def test_a_term_of_the_whole_group_replaces_no_worker_meanwhile(server: Server) -> None:
    """systemd with KillMode=control-group, a terminal: workers and the status process are told too."""
    server.start(workers=1, status_bind="127.0.0.1:0", shutdown_delay=1.5)
    status = ready_status(server)
    mark = server.log.mark()
    for pid in (*procfs.children(server.pid), server.pid):
        os.kill(pid, signal.SIGTERM)
    server.wait_for("stop_delayed", since=mark)
    eventually(lambda: request(status, "/readyz").status == 503, "balancers are told")
    assert server.get("/debug/pid").status == 200
    assert server.wait() == 0
    assert server.events("worker_spawned", since=mark) == []
    assert server.events("status_gone") == []


def test_a_second_term_ends_the_delay(server: Server) -> None:
    server.start(workers=1, shutdown_delay=3600)
    mark = server.term()
    server.wait_for("stop_delayed", since=mark)
    server.term()
    assert server.wait() == 0
    assert not server.wait_for("stopping")["fast"]
