"""What a client may say, and what it hears: HTTP/1.1 and PEP 3333 on a real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.http.client import HOST, Broken, Client
from tests.http.conftest import Served
from tests.unit.http.messages import REFUSED

Start = Callable[..., Served]

GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture
def client(shared: Served) -> Iterator[Client]:
    with shared.connect() as client:
        yield client


def test_a_small_answer_has_four_fields(client: Client) -> None:
    answer = client.get("/hello")
    assert (answer.status, answer.body) == (200, b"Hello, World!")
    assert answer.headers.keys() == {"content-type", "content-length", "date", "server"}
    assert answer.headers["date"].endswith(" GMT")


def test_a_connection_serves_several_requests(client: Client) -> None:
    for _ in range(3):
        assert client.get("/hello").body == b"Hello, World!"


def test_close_is_honoured_and_said(client: Client) -> None:
    answer = client.get("/hello", b"Connection: close\r\n")
    assert answer.headers["connection"] == "close"
    assert client.closed()


def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    names = ["hello", "several", "stream", "echo", "environ"] * 20
    client.send(b"".join(b"GET /%b HTTP/1.1\r\n" % name.encode() + HOST + b"\r\n" for name in names))
    bodies = [client.answer().body for _ in names]
    assert bodies[:4] == [b"Hello, World!", b"one two three", b"block 0\nblock 1\nblock 2\n", b""]
    assert [json.loads(body)["PATH_INFO"] for body in bodies[4::5]] == ["/environ"] * 20


def test_pipelined_bodies_go_to_their_requests(client: Client) -> None:
    post = b"POST /echo HTTP/1.1\r\n" + HOST
    client.send(
        post + b"Content-Length: 3\r\n\r\nabc" + post + b"Transfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n" + GET
    )
    assert [client.answer().body for _ in range(3)] == [b"abc", b"de", b"Hello, World!"]


def test_what_follows_a_close_is_not_served(shared: Served, client: Client) -> None:
    before = shared.gauges()["total"]
    client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + GET + GET)
    assert client.answer().body == b"Hello, World!"
    assert client.closed()
    assert shared.gauges()["total"] == before + 1


def test_requests_cut_anywhere(client: Client) -> None:
    message = b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello"
    for place in range(1, len(message)):
        client.send(message[:place])
        client.send(message[place:])
        assert client.answer().body == b"hello"


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_answered_and_closed(serve_small: Served, name: str) -> None:
    message, status = REFUSED[name]
    with serve_small.connect() as client:
        client.send(message)
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert client.closed()


@pytest.mark.parametrize("name", ["two lengths", "chunk too long", "long body", "bare LF in a value"])
def test_what_is_refused_after_requests_leaves_their_answers(serve_small: Served, name: str) -> None:
    message, status = REFUSED[name]
    with serve_small.connect() as client:
        client.send(GET * 3 + message)
        assert [client.answer().status for _ in range(4)] == [200, 200, 200, status]
        assert client.closed()


@pytest.fixture(scope="module")
def serve_small() -> Iterator[Served]:
    """A server with the limits of the table of messages."""
    server = Served(
        limit_request_line=200, limit_request_fields=8, limit_request_field_size=100, limit_request_body=1000
    )
    yield server
    server.stop()


def test_http_1_0_ends_with_the_connection(client: Client) -> None:
    client.send(b"GET /stream HTTP/1.0\r\n\r\n")
    answer = client.answer()
    assert answer.body == b"block 0\nblock 1\nblock 2\n"
    assert answer.headers["connection"] == "close"
    assert "transfer-encoding" not in answer.headers


def test_http_1_0_with_keep_alive(client: Client) -> None:
    for _ in range(2):
        client.send(b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert client.answer().headers["connection"] == "keep-alive"
    client.send(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert client.answer().headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/hello", "/several", "/stream", "/big", "/file", "/nothing", "/write"])
def test_head_has_the_head_alone(client: Client, path: str) -> None:
    got = client.get(path)
    head = client.get(path, method=b"HEAD")
    assert (head.status, head.body) == (got.status, b"")
    if "content-length" in head.headers:
        assert head.headers["content-length"] == got.headers["content-length"]
    assert client.get("/hello").body == b"Hello, World!"


@pytest.mark.parametrize("code", ["204", "304"])
@pytest.mark.parametrize("options", ["", "&blocks=1", "&length=1", "&length=1&blocks=1"])
def test_statuses_without_body(client: Client, code: str, options: str) -> None:
    answer = client.get(f"/status?code={code}{options}")
    assert answer.status == int(code)
    assert ("content-length" in answer.headers) is (code == "304" and "length" in options)
    assert "transfer-encoding" not in answer.headers
    assert client.get("/hello").body == b"Hello, World!"


def test_whole_bodies_get_a_length(client: Client) -> None:
    assert client.get("/several").headers["content-length"] == "13"
    assert client.get("/nothing").headers["content-length"] == "0"


def test_streams_are_chunked(client: Client) -> None:
    answer = client.get("/stream?n=50")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body == b"".join(b"block %d\n" % number for number in range(50))


def test_blocks_leave_when_they_are_there(shared: Served, client: Client) -> None:
    client.send(b"GET /stream?n=2&gate=g HTTP/1.1\r\n" + HOST + b"\r\n")
    assert client.until(b"block 0\n\r\n").endswith(b"8\r\nblock 0\n\r\n")
    shared.command("open g0")
    client.until(b"block 1\n\r\n")
    shared.command("open g1")
    assert client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


def test_head_and_body_leave_in_one_piece(client: Client) -> None:
    client.send(GET)
    assert client.socket.recv(65_536).endswith(b"Hello, World!")


def test_what_write_is_given_comes_first(client: Client) -> None:
    assert client.get("/write").body == b"first second third"


def test_lazy_start_response(client: Client) -> None:
    assert client.get("/lazy").body == b"lazy"


def test_exc_info_replaces_an_answer_that_was_not_sent(client: Client) -> None:
    answer = client.get("/replaced")
    assert (answer.status, answer.body) == (503, b"later")


def test_own_date_and_server(client: Client) -> None:
    headers = client.get("/own-fields").headers
    assert (headers["date"], headers["server"]) == ("Thu, 01 Jan 1970 00:00:00 GMT", "mine")


def test_the_environment_is_that_of_pep_3333(client: Client) -> None:
    found = json.loads(client.get("/environ/caf%C3%A9?a=b%20c", b"X-Multi: 1\r\nX-Multi: 2\r\nX_Evil: 1\r\n").body)
    assert found["PATH_INFO"] == "/environ/café".encode().decode("latin-1")
    assert found["RAW_URI"] == "/environ/caf%C3%A9?a=b%20c"
    assert found["QUERY_STRING"] == "a=b%20c"
    assert found["HTTP_X_MULTI"] == "1,2"
    assert found["SERVER_NAME"] == found["REMOTE_ADDR"] == "127.0.0.1"
    assert found["SERVER_PORT"].isdigit()
    assert found["wsgi.url_scheme"] == "http"
    assert not [name for name in found if "EVIL" in name]


def test_the_referee_of_the_standard_library_is_content(client: Client) -> None:
    assert client.get("/valid").body == b"written read nothing"
    assert client.post("/valid", b"body", b"Content-Type: text/plain\r\n").body == b"written read body"


def test_options_for_the_server(client: Client) -> None:
    answer = client.get("*", method=b"OPTIONS")
    assert (answer.status, answer.body) == (200, b"")


def test_upgrade_is_served_as_if_it_was_not_offered(client: Client) -> None:
    answer = client.post(
        "/echo", b"abc", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    )
    assert (answer.status, answer.body) == (200, b"abc")
    assert client.get("/hello").status == 200


def test_every_request_has_a_context_of_its_own(client: Client) -> None:
    assert [client.get("/context").body for _ in range(3)] == [b"nothing set"] * 3


@pytest.mark.parametrize("kind", ["plain", "memory", "gzip"])
@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_files_are_sent_whole(client: Client, kind: str, size: int) -> None:
    answer = client.get(f"/file?kind={kind}&size={size}")
    assert answer.body == bytes(index % 251 for index in range(size))
    assert client.get("/hello").status == 200


@pytest.mark.parametrize("kind", ["plain", "memory"])
def test_files_from_a_place_on(client: Client, kind: str) -> None:
    answer = client.get(f"/file?kind={kind}&size=1000&from=990&length=5")
    assert answer.headers["content-length"] == "5"
    assert answer.body == bytes(index % 251 for index in range(990, 995))


@pytest.mark.parametrize("kind", ["plain", "memory"])
def test_a_file_that_is_shorter_than_announced_ends_the_connection(serve: Start, kind: str) -> None:
    server = serve()
    with server.connect() as client, pytest.raises(Broken) as broken:
        client.get(f"/file?kind={kind}&size=10&length=20")
    assert broken.value.args[0] == bytes(range(10))
    assert "20" in server.event("response_broken")["message"] or kind == "memory"
