"""Applications that a server is tested with, by the first part of the path."""

from __future__ import annotations

import contextvars
import gzip
import hashlib
import io
import itertools
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs
from wsgiref.validate import validator

import gevent
from gevent.event import Event
from gevent.monkey import get_original
from gevent.socket import wait_read

Environ = dict[str, Any]
TEXT = [("Content-Type", "text/plain")]
really_sleep: Callable[[float], None] = get_original("time", "sleep")
SEEN = contextvars.ContextVar("SEEN", default="nothing")

counts = {"closed": 0, "started": 0, "inside": 0, "most": 0, "reads": 0}
gates: dict[str, Event] = {}


def parameter(environ: Environ, name: str, default: str = "") -> str:
    found: str = parse_qs(environ["QUERY_STRING"]).get(name, [default])[0]
    return found


def gate(name: str) -> Event:
    return gates.setdefault(name, Event())


class Blocks:
    """An iterable that counts its end."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.blocks = iter(blocks)

    def __iter__(self) -> Iterator[bytes]:
        return self.blocks

    def close(self) -> None:
        counts["closed"] += 1


def hello(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "13")])
    return [b"Hello, World!"]


def environ(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({key: value for key, value in environ.items() if isinstance(value, str)}).encode()]


def echo(environ: Environ, start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", TEXT)
    return [body]


def digest(environ: Environ, start_response: Any) -> list[bytes]:
    """Read by blocks, as uploads are."""
    size, sha = 0, hashlib.sha256()
    while block := environ["wsgi.input"].read(65_536):
        size += len(block)
        sha.update(block)
    start_response("200 OK", TEXT)
    return [f"{size} {sha.hexdigest()} {environ.get('CONTENT_LENGTH', '-')}".encode()]


def single(environ: Environ, start_response: Any) -> list[bytes]:
    """Read byte by byte, if asked so in a native thread."""

    def read() -> int:
        size = 0
        while environ["wsgi.input"].read(1):
            size += 1
        return size

    size = gevent.get_hub().threadpool.apply(read) if parameter(environ, "thread") else read()
    start_response("200 OK", TEXT)
    return [b"%d" % size]


def reads(environ: Environ, start_response: Any) -> list[bytes]:
    """Read in every way there is."""
    stream = environ["wsgi.input"]
    found = [stream.read(3), stream.readline(), stream.readline(2), *stream.readlines(1), *stream, stream.read()]
    start_response("200 OK", TEXT)
    return [repr(found).encode()]


def read_later(environ: Environ, start_response: Any) -> list[bytes]:
    """Read when a gate opens, and say how much there was."""
    counts["started"] += 1
    gate("read").wait()
    size = 0
    while block := environ["wsgi.input"].read(65_536):
        size += len(block)
    start_response("200 OK", TEXT)
    return [b"%d" % size]


def tolerate(environ: Environ, start_response: Any) -> list[bytes]:
    """Answer although the body could not be read."""
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        start_response("200 OK", TEXT)
        return [f"tolerated {error}".encode()]
    start_response("200 OK", TEXT)
    return [b"complete"]


def ignore(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [b"ignored"]


def stream(environ: Environ, start_response: Any) -> Blocks:
    more = b"x" * int(parameter(environ, "more", "0"))

    def blocks() -> Iterator[bytes]:
        for number in range(int(parameter(environ, "n", "3"))):
            yield b"block %d\n" % number + more
            yield b""
            if name := parameter(environ, "gate"):
                gate(f"{name}{number}").wait()

    start_response("200 OK", TEXT)
    return Blocks(blocks())


def unready(environ: Environ, start_response: Any) -> Iterator[bytes]:
    """PEP 3333: an application may yield empty strings while it has nothing to send."""
    start_response("200 OK", TEXT)
    end = time.monotonic() + float(parameter(environ, "s", "0"))
    while time.monotonic() < end:
        yield b""
    yield b"ready"


def lazy(environ: Environ, start_response: Any) -> Iterator[bytes]:
    """Call start_response with the first block."""
    start_response("200 OK", TEXT)
    yield b"la"
    yield b"zy"


def nothing(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield from ()


def several(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [b"one ", b"two ", b"three"]


def write(environ: Environ, start_response: Any) -> list[bytes]:
    send = start_response("200 OK", TEXT)
    send(b"first ")
    send(b"")
    send(b"second ")
    return [b"third"]


def big(environ: Environ, start_response: Any) -> Blocks:
    block = b"x" * 65_536
    count = int(parameter(environ, "mib", "1")) * 16
    start_response("200 OK", [*TEXT, ("Content-Length", str(count * len(block)))])
    return Blocks(block for _ in range(count))


def whole(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Give all of the body at once, a body for each request; in one block or in a stream of blocks."""
    body = b"x" * (int(parameter(environ, "mib", "1")) << 20)
    start_response("200 OK", TEXT)
    return iter([body, body]) if parameter(environ, "stream", "") else [body]


def file(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Send a file in one of several kinds, from one of several places."""
    kind, size = parameter(environ, "kind", "plain"), int(parameter(environ, "size", "100000"))
    content = bytes(index % 251 for index in range(size))
    opened: Any
    if kind == "memory":
        opened = io.BytesIO(content)
    else:
        opened = tempfile.TemporaryFile()  # noqa: SIM115 - the server closes it
        opened.write(gzip.compress(content) if kind == "gzip" else content)
        opened.seek(0)
        if kind == "gzip":
            opened = gzip.GzipFile(fileobj=opened)
            # It leaves what it reads from open.
            opened.myfileobj = opened.fileobj
    opened.seek(int(parameter(environ, "from", "0")))
    headers = list(TEXT)
    if length := parameter(environ, "length"):
        headers.append(("Content-Length", length))
    start_response("200 OK", headers)
    wrapper: Callable[..., Iterable[bytes]] = environ["wsgi.file_wrapper"]
    return wrapper(CountedFile(opened), 8192)


def hole(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Send a gigabyte that is on no disk."""
    opened = tempfile.TemporaryFile()  # noqa: SIM115 - the server closes it
    opened.truncate(1 << 30)
    start_response("200 OK", TEXT)
    wrapper: Callable[..., Iterable[bytes]] = environ["wsgi.file_wrapper"]
    return wrapper(opened)


class CountedFile:
    """Count the end of a file, in the way of Django: its close is replaced."""

    def __init__(self, opened: Any) -> None:
        self.opened = opened
        self.read = opened.read

    def close(self) -> None:
        counts["closed"] += 1
        self.opened.close()


def fail(environ: Environ, start_response: Any) -> Any:
    """Raise at a point of the answer."""
    point = parameter(environ, "at", "call")

    def blocks() -> Iterator[bytes]:
        if point == "first":
            raise RuntimeError("failed at first")
        yield b"begun"
        if point == "second":
            raise RuntimeError("failed at second")
        if point == "reported":
            try:
                raise RuntimeError("failed at reported")  # noqa: TRY301 - with a traceback
            except RuntimeError as error:
                start_response("500 Sorry", TEXT, (type(error), error, error.__traceback__))

    if point == "call":
        raise RuntimeError("failed at call")
    if point == "exit":
        raise SystemExit(3)
    if point == "timeout":
        raise gevent.Timeout(1)
    headers = [*TEXT, ("Content-Length", "100")] if parameter(environ, "length") else TEXT
    start_response("200 OK", headers)
    if point == "close":
        return FailingClose()
    return Blocks(blocks())


class FailingClose(Blocks):
    def __init__(self) -> None:
        super().__init__([b"answered"])

    def close(self) -> None:
        super().close()
        raise RuntimeError("failed at close")


def replaced(environ: Environ, start_response: Any) -> list[bytes]:
    """Replace the answer by an error's, before it was sent."""
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    try:
        raise RuntimeError("replaced")  # noqa: TRY301 - with a traceback
    except RuntimeError as error:
        start_response("503 Later", TEXT, (type(error), error, error.__traceback__))
    return [b"later"]


def broken(environ: Environ, start_response: Any) -> Any:
    """Break one of the rules for applications."""
    rule = parameter(environ, "rule")
    headers: Any = list(TEXT)
    status: Any = "200 OK"
    body: Any = [b"body"]
    name, _, value = parameter(environ, "header").partition(":")
    if name:
        headers.append((name, value))
    if rule == "status":
        status = parameter(environ, "status")
    if rule == "type":
        headers.append(("X-A", 5))
    if rule == "text":
        body = ["text"]
    if rule == "text block":
        body = iter(["text"])
    if rule == "none":
        body = None
    if rule == "unstarted":
        return body
    if rule == "twice":
        start_response("200 OK", TEXT)
    start_response(status, headers)
    return body


def length(environ: Environ, start_response: Any) -> Any:
    """Announce one length and give another."""
    announced, given = parameter(environ, "announced"), int(parameter(environ, "given"))
    start_response("200 OK", [*TEXT, ("Content-Length", announced)])
    body = b"x" * given
    return Blocks([body[: given // 2], body[given // 2 :]]) if parameter(environ, "blocks") else [body]


def status(environ: Environ, start_response: Any) -> Any:
    headers = [*TEXT, ("Content-Length", "4")] if parameter(environ, "length") else TEXT
    start_response(parameter(environ, "code") + " Status", headers)
    return iter([b"body"]) if parameter(environ, "blocks") else [b"body"]


def own_fields(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "mine"), ("X-É".upper()[:1], "é")])
    return [b"own"]


def context(environ: Environ, start_response: Any) -> Blocks:
    """Tell what a request finds in a context variable, at its beginning and within its body."""
    at_start = SEEN.get()
    SEEN.set("set")

    def blocks() -> Iterator[bytes]:
        yield f"{at_start} {SEEN.get()}".encode()

    start_response("200 OK", TEXT)
    return Blocks(blocks())


def wait(environ: Environ, start_response: Any) -> list[bytes]:
    """Wait for a gate, and count how many do."""
    counts["started"] += 1
    counts["inside"] += 1
    counts["most"] = max(counts["most"], counts["inside"])
    gate(parameter(environ, "gate", "wait")).wait()
    counts["inside"] -= 1
    start_response("200 OK", TEXT)
    return [b"waited"]


def ask(environ: Environ, start_response: Any) -> list[bytes]:
    """Wait for a descriptor that is ready at once, as a fast database is, and count how many do."""
    counts["inside"] += 1
    counts["most"] = max(counts["most"], counts["inside"])
    mine, other = socket.socketpair()
    with mine, other:
        other.send(b"x")
        wait_read(mine.fileno())
    counts["inside"] -= 1
    start_response("200 OK", TEXT)
    return [b"asked"]


def work(environ: Environ, start_response: Any) -> list[bytes]:
    """Compute for a millisecond, as a page of a framework does."""
    end = time.thread_time() + 0.001
    while time.thread_time() < end:
        pass
    return hello(environ, start_response)


def numbered(environ: Environ, start_response: Any) -> list[bytes]:
    """Tell how many were served before; compute for a while first."""
    if parameter(environ, "work"):
        work(environ, lambda *_: None)
    start_response("200 OK", TEXT)
    return [b"%d" % next(numbers)]


numbers = itertools.count()


def stall(environ: Environ, start_response: Any) -> list[bytes]:
    """Block the hub, so that much has arrived when it looks again; wait a little before and after."""
    gevent.sleep(0)
    counts["started"] += 1
    really_sleep(float(parameter(environ, "s")))
    gevent.sleep(0.001)
    start_response("200 OK", TEXT)
    return [b"stalled"]


def keep_input(environ: Environ, start_response: Any) -> list[bytes]:
    """Read what the request before has left open."""
    old = kept.get("input")
    kept["input"] = environ["wsgi.input"]
    start_response("200 OK", TEXT)
    return [old.read() if old else b"first"]


kept: dict[str, Any] = {}


@validator
def valid(environ: Environ, start_response: Any) -> Iterator[bytes]:
    """Behave, under the eyes of the standard library's referee."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    send = start_response("200 OK", TEXT)
    send(b"written ")
    return iter([b"read ", body or b"nothing"])


APPS: dict[str, Callable[..., Any]] = {
    app.__name__.replace("_", "-"): app
    for app in (
        hello, environ, echo, digest, reads, read_later, tolerate, ignore, stream, lazy, nothing, several, write, big,
        file, hole, fail, replaced, broken, length, status, own_fields, context, wait, ask, work, stall, keep_input,
        whole, numbered, single, unready,
    )
}  # fmt: skip
APPS["valid"] = valid


def application(environ: Environ, start_response: Any) -> Any:
    """Choose by the path's first part."""
    name = environ["PATH_INFO"].split("/")[1] or "hello"
    return APPS[name](environ, start_response)


def deep(environ: Environ, start_response: Any, levels: int = 80) -> list[bytes]:
    """Answer from as far down the stack as a framework with its middleware does."""
    return deep(environ, start_response, levels - 1) if levels else hello(environ, start_response)


APPS["deep"] = deep


def duplex(environ: Environ, start_response: Any) -> Iterator[bytes]:
    """Read the body in one greenlet, and write the answer in another."""
    read = gevent.spawn_later(float(parameter(environ, "after", "0")), environ["wsgi.input"].read)
    gevent.sleep(0.01)
    start_response("200 OK", TEXT)
    for _ in range(64):
        yield bytes(1 << 18)
    yield b"%d" % len(read.get())


APPS["duplex"] = duplex


def abandon(environ: Environ, start_response: Any) -> list[bytes]:
    """Have a greenlet read the body, and answer without it."""
    gevent.spawn(environ["wsgi.input"].read)
    gevent.sleep(0)
    return hello(environ, start_response)


APPS["abandon"] = abandon


def outlive(environ: Environ, start_response: Any) -> list[bytes]:
    """Have a greenlet read the body; when it has read all, and lets others have their turn, answer."""

    def read() -> None:
        body = environ["wsgi.input"]
        body.read(int(parameter(environ, "first", "0")))
        spent = time.perf_counter() + 0.005  # more than a turn of the hub has for such work
        while time.perf_counter() < spent:
            pass
        body.read()

    gevent.spawn(read)
    gevent.sleep(0)
    return hello(environ, start_response)


APPS["outlive"] = outlive
