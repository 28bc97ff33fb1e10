"""The PROXY protocol on connections: who may speak it, what comes with it, and the real HAProxy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from djworker.http.proxy_header import V2
from tests.http.client import HOST, Client, eventually
from tests.http.conftest import Served
from tests.http.test_proxies import proxy

Start = Callable[..., Served]
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n"
BINARY = V2 + bytes.fromhex("2111000c c0000201 c6336402 1267 01bb")
OWN = V2 + bytes.fromhex("20000000")
GET = b"GET /environ HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture(scope="module")
def announced() -> Iterator[Served]:
    server = Served(proxy_protocol=True)
    yield server
    server.stop()


def client_of(client: Client) -> tuple[str, str]:
    found = json.loads(client.answer().body)
    return found["REMOTE_ADDR"], found["REMOTE_PORT"]


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_the_client_is_the_announced_one_for_the_whole_connection(announced: Served, header: bytes) -> None:
    with announced.connect() as client:
        client.send(header + GET)
        assert client_of(client) == ("192.0.2.1", "4711")
        client.send(GET + GET)
        assert [client_of(client) for _ in range(2)] == [("192.0.2.1", "4711")] * 2
        client.send(header + GET)
        assert client.answer().status == 400


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_a_header_may_come_in_pieces_and_before_its_request(announced: Served, header: bytes) -> None:
    with announced.connect() as client:
        for place in range(len(header)):
            client.send(header[place : place + 1])
            announced.gauges()
        eventually(lambda: announced.gauges()["running"] == 0, "no request runs")
        client.send(GET)
        assert client_of(client) == ("192.0.2.1", "4711")


def test_a_connection_of_the_proxy_itself_is_its_own(announced: Served) -> None:
    with announced.connect() as client:
        client.send(OWN + GET)
        assert client_of(client) == ("127.0.0.1", str(client.socket.getsockname()[1]))


def test_the_announced_client_is_no_proxy(announced: Served) -> None:
    with announced.connect() as client:
        client.send(LINE + GET[:-2] + b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n\r\n")
        found = json.loads(client.answer().body)
    announced.event("forwarded_removed")
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("192.0.2.1", "http")
    assert not [name for name in found if "FORWARDED" in name]


@pytest.mark.parametrize("data", [GET, b"PROXY TCP4 1.2.3.4\r\n", b"\r\n\r\n" + GET, b"\x16\x03\x01\x02\x00"])
def test_a_connection_without_a_header_is_refused(announced: Served, data: bytes) -> None:
    with announced.connect() as client:
        client.send(data)
        assert client.answer().status == 400
        assert client.closed()


def test_a_silent_or_slow_proxy_has_a_deadline(serve: Start) -> None:
    server = serve(proxy_protocol=True, header_timeout=0.3)
    with server.connect() as silent, server.connect() as slow:
        slow.send(LINE[:10])
        assert slow.answer().status == 408
        assert silent.closed()
    with server.connect() as client:
        client.send(LINE)
        assert client.closed()


def test_strangers_may_not_announce_anybody(serve: Start, tmp_path_factory: pytest.TempPathFactory) -> None:
    server = serve(proxy_protocol=True, proxy_allow_from=("10.0.0.0/8",))
    for start in (LINE, BINARY, b""):
        with server.connect() as client:
            client.send(start + GET)
            assert client.answer().status == 403
            assert client.closed()
    path = str(tmp_path_factory.mktemp("s") / "s")
    by_unix = serve(proxy_protocol=True, proxy_allow_from=("unix",), unix=path)
    with by_unix.connect() as client:
        client.send(LINE + GET)
        assert client_of(client) == ("192.0.2.1", "4711")


def test_who_leaves_within_the_header_has_a_line_in_the_log(
    serve: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = tmp_path_factory.mktemp("log") / "access"
    server = serve(proxy_protocol=True, access=str(log), access_log_format='"%(r)s" %(s)s %(R)s')
    with server.connect() as client:
        client.send(LINE)  # a proxy that looks whether the port is open: its client has sent nothing
    with server.connect() as client:
        client.send(LINE[:9])
        eventually(lambda: any(item[3] == "reading the head" for item in server.command("flight")))
    eventually(lambda: "\n" in log.read_text())
    (line,) = (json.loads(text)["message"] for text in log.read_text().splitlines())
    assert line == '"-" 400 the client left within the header of the PROXY protocol'


def test_no_request_comes_of_a_header_alone(announced: Served) -> None:
    """What HAProxy's check of the port does."""
    before = announced.gauges()["total"]
    with announced.connect() as client:
        client.send(OWN)
    eventually(lambda: announced.gauges()["open"] == 0, "the connection is closed")
    assert announced.gauges()["total"] == before


def test_a_header_is_nonsense_where_it_is_not_expected(shared: Served) -> None:
    with shared.connect() as client:
        client.send(LINE + GET)
        assert client.answer().status == 400


@pytest.mark.parametrize("word", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"])
def test_haproxy_announces_its_clients(announced: Served, word: str, tmp_path: Path) -> None:
    with proxy("haproxy", announced.address, tmp_path, server_options=word) as port:
        for _ in range(2):
            with Client(port) as client:
                client.send(GET + GET)
                name = client.socket.getsockname()
                assert [client_of(client) for _ in range(2)] == [(name[0], str(name[1]))] * 2
