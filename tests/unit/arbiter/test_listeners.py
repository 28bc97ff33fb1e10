"""Listening sockets: all or none, one line for each that fails, and nothing left behind."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from djworker.arbiter.listeners import Listener, ListenError, adopt, close_all, let_go, open_listeners, preflight
from djworker.conf.address import Address


def open_one(text: str, mode: int = 0o666) -> Listener:
    (listener,) = open_listeners([Address.parse(text)], 10, mode)
    return listener


def connect(listener: Listener, timeout: float = 0.2) -> socket.socket:
    client = socket.socket(listener.sock.family)
    client.settimeout(timeout)
    try:
        client.connect(listener.sock.getsockname())
    except OSError:
        client.close()
        raise
    return client


@pytest.mark.parametrize("text, shown", [("127.0.0.1:0", "http://127.0.0.1:"), ("[::1]:0", "http://[::1]:")])
def test_an_address_of_tcp_is_listened_on(text: str, shown: str) -> None:
    listener = open_one(text)
    assert str(listener).startswith(shown)
    assert not listener.sock.getblocking()
    assert not listener.sock.get_inheritable()
    connect(listener).close()
    listener.close()


@pytest.mark.parametrize("mode", [0o666, 0o770, 0o600, 0o777, 0])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0])
def test_a_unix_socket_has_its_permissions_whatever_the_umask(tmp_path: Path, mode: int, umask: int) -> None:
    before = os.umask(umask)
    listener = open_one(f"unix:{tmp_path}/s", mode)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
    assert os.umask(before) == umask, "the process keeps its own"
    listener.close()
    assert not (tmp_path / "s").exists()


def test_everybody_may_connect_unless_told_otherwise(tmp_path: Path) -> None:
    (listener,) = open_listeners([Address.parse(f"unix:{tmp_path}/s")], 10)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o666
    listener.close()


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """Not to the socket of another program that has died, and not to a place where none is yet."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "other"))
    for target in ("other", "nothing"):
        (tmp_path / "s").symlink_to(tmp_path / target)
        with pytest.raises(ListenError, match="not a socket"):
            open_one(f"unix:{tmp_path}/s")
        assert (tmp_path / "s").is_symlink()
        (tmp_path / "s").unlink()
    assert (tmp_path / "other").exists()
    assert not (tmp_path / "nothing").exists()


def test_a_dead_servers_unix_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    listener = open_one(f"unix:{tmp_path}/s")
    connect(listener).close()
    listener.close()


def test_a_living_servers_unix_socket_is_left_alone(tmp_path: Path) -> None:
    living = open_one(f"unix:{tmp_path}/s")
    with pytest.raises(ListenError, match="another process listens there"):
        open_one(f"unix:{tmp_path}/s")
    connect(living).close()
    living.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(ListenError, match="not a socket"):
        open_one(f"unix:{tmp_path}/s")
    assert (tmp_path / "s").read_text() == "precious"


def test_another_servers_file_survives_our_end(tmp_path: Path) -> None:
    ours = open_one(f"unix:{tmp_path}/s")
    (tmp_path / "s").rename(tmp_path / "old")
    theirs = open_one(f"unix:{tmp_path}/s")
    ours.close()
    assert (tmp_path / "s").exists()
    theirs.close()


def test_all_or_none_and_every_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        texts = [f"127.0.0.1:{taken.getsockname()[1]}", f"unix:{tmp_path}/s", f"unix:{tmp_path}/no/s", "fd://4000"]
        with pytest.raises(ListenError) as caught:
            open_listeners([Address.parse(text) for text in texts], 10)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for line, reason in zip(lines, ("another process", "directory does not exist", "no such descriptor"), strict=True):
        assert reason in line
    assert not (tmp_path / "s").exists(), "the one that could be opened is closed again"


def test_preflight_leaves_nothing_open(tmp_path: Path) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    assert preflight([Address.parse(text) for text in ("127.0.0.1:0", f"unix:{tmp_path}/s", "fd://0")]) == []
    assert not (tmp_path / "s").exists()
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_passed_descriptor_must_listen() -> None:
    with socket.socket() as silent, pytest.raises(OSError, match="not a listening socket") as caught:
        adopt(silent.fileno())
    assert caught.value.errno == errno.EINVAL


def test_a_passed_descriptor_is_taken_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        copy = os.dup(server.fileno())
        os.set_inheritable(copy, True)
        taken = open_one(f"fd://{copy}")
        assert not taken.sock.getblocking()
        assert not os.get_inheritable(copy)
        let_go([taken])
        with socket.create_connection(server.getsockname(), 5), server.accept()[0]:
            pass  # its owner goes on


@pytest.mark.parametrize("kind", ["127.0.0.1:0", "[::1]:0", "unix"])
def test_after_let_go_the_queue_can_be_emptied_and_nobody_new_comes_in(tmp_path: Path, kind: str) -> None:
    if kind != "unix" and sys.platform != "linux":
        pytest.skip("only Linux has socket filters")
    listener = open_one(f"unix:{tmp_path}/s" if kind == "unix" else kind)
    with ExitStack() as stack:
        # A worker's copy of the socket.
        copy = stack.enter_context(socket.socket(fileno=os.dup(listener.sock.fileno())))
        copy.setblocking(True)
        early = stack.enter_context(connect(listener))
        name = listener.sock.getsockname()
        let_go([listener])
        late = stack.enter_context(socket.socket(copy.family))
        late.settimeout(0.2)
        with pytest.raises((TimeoutError, ConnectionRefusedError, FileNotFoundError)):
            late.connect(name)
        accepted, _ = copy.accept()
        stack.enter_context(accepted)
        early.sendall(b"still here")
        assert accepted.recv(20) == b"still here"


def test_close_all_closes_each_listener() -> None:
    listeners = [open_one("127.0.0.1:0") for _ in range(2)]
    close_all(listeners)
    assert [listener.sock.fileno() for listener in listeners] == [-1, -1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def reaches(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_every_interface_of_ipv6_serves_ipv4_too() -> None:
    listener = open_one("[::]:0")
    port = listener.sock.getsockname()[1]
    assert str(listener) == f"http://[::]:{port}"
    assert reaches("127.0.0.1", port)
    assert reaches("::1", port)
    listener.close()


def test_another_address_of_ipv6_serves_its_own_family_alone() -> None:
    listener = open_one("[::1]:0")
    assert not reaches("127.0.0.1", listener.sock.getsockname()[1])
    listener.close()


@pytest.mark.parametrize("ipv4", ["0.0.0.0", "127.0.0.1", "localhost"])
@pytest.mark.parametrize("ipv4_first", [True, False])
def test_ipv4_keeps_an_address_of_its_own_on_the_same_port(ipv4: str, *, ipv4_first: bool) -> None:
    port = free_port()
    texts = [f"{ipv4}:{port}", f"[::]:{port}"]
    listeners = open_listeners(map(Address.parse, texts if ipv4_first else reversed(texts)), 10)
    assert {listener.sock.family for listener in listeners} == {socket.AF_INET, socket.AF_INET6}
    assert all(reaches(host, port) for host in ("127.0.0.1", "::1"))
    close_all(listeners)


def test_a_passed_socket_of_ipv4_keeps_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        port = passed.getsockname()[1]
        copy = os.dup(passed.fileno())
        listeners = open_listeners([Address.parse(f"[::]:{port}"), Address.parse(f"fd://{copy}")], 10)
        assert reaches("::1", port)
        close_all(listeners)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract sockets")
def test_an_abstract_socket_is_no_file_and_leaves_nothing_stale() -> None:
    text = f"unix:@djworker test {os.getpid()}"
    listener = open_one(text, 0o600)
    assert str(listener) == text
    connect(listener).close()
    with pytest.raises(ListenError, match="another process listens there"):
        open_one(text)
    let_go([listener])
    assert preflight([Address.parse(text)]) == []
