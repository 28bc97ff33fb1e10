"""Bodies that Django reads: without a length, without an end, and without a reader."""

from __future__ import annotations

import json
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.processes.events import PATIENCE
from tests.processes.project import SETTINGS
from tests.processes.server import Server

CHUNKED = b"Transfer-Encoding: chunked\r\n"
VIEW_CODE = """
import hashlib as _hashlib
from django.http import HttpResponse as _Response, JsonResponse as _Json
from django.views.decorators.csrf import csrf_exempt as _exempt

@_exempt
def body_view(request, way):
    if way == "body":
        return _Json({"size": len(request.body), "length": request.META.get("CONTENT_LENGTH")})
    if way == "post":
        return _Json({"size": len(request.POST.get("a", "")), "length": request.META.get("CONTENT_LENGTH")})
    if way == "files":
        request.FILES
        return _Json({"size": sum(file.size for file in request.FILES.values()), "fields": list(request.POST)})
    if way == "read":
        size = 0
        while block := request.read(65536):
            size += len(block)
        return _Json({"size": size})
    return _Json({"size": -1})
"""


@pytest.fixture
def bodies(server: Server) -> Server:
    """A server with views that read in each way, and a mail to ADMINS as a file for each error."""
    project = server.project
    project.add_view(VIEW_CODE, "body_view", "bodies/<str:way>")
    project.append(
        SETTINGS,
        "DEBUG = False\nALLOWED_HOSTS = ['*']\nADMINS = [('a', 'a@test.example')]\n"
        "EMAIL_BACKEND = 'django.core.mail.backends.filebased.EmailBackend'\n"
        f"EMAIL_FILE_PATH = {str(project.folder / 'mails')!r}\n"
        "LOGGING = {'version': 1, 'disable_existing_loggers': False, 'handlers': {'mail': {'class':"
        " 'django.utils.log.AdminEmailHandler'}}, 'loggers': {'django': {'handlers': ['mail'], 'level': 'ERROR'}}}\n",
    )
    return server.start(workers=1)


def opened(server: Server, way: str, fields: bytes) -> socket.socket:
    address = server.address
    sock = socket.create_connection((address.host, address.port), timeout=PATIENCE)
    sock.sendall(b"POST /bodies/" + way.encode() + b" HTTP/1.1\r\nHost: test.example\r\n" + fields + b"\r\n")
    return sock


def answer(sock: socket.socket) -> tuple[int, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        data = sock.recv(65_536)
        assert data, received
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l")), 0
    )
    while len(body) < length:
        body += sock.recv(65_536)
    return int(head.split(b" ")[1]), body


def chunks(body: bytes, size: int = 10_000) -> Iterator[bytes]:
    for place in range(0, len(body), size):
        block = body[place : place + size]
        yield b"%x\r\n%b\r\n" % (len(block), block)
    yield b"0\r\n\r\n"


def asked(server: Server, way: str, body: bytes, fields: bytes = b"") -> tuple[int, bytes]:
    with opened(server, way, CHUNKED + fields) as sock:
        # From another thread: a server that answers early does not read to the end.
        sender = threading.Thread(target=lambda: sock.sendall(b"".join(chunks(body))))
        sender.start()
        found = answer(sock)
        sender.join()
        return found


def form(size: int) -> tuple[bytes, bytes]:
    content = b'--X\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + b"x" * size + b"\r\n"
    content += b'--X\r\nContent-Disposition: form-data; name="last"\r\n\r\nv\r\n--X--\r\n'
    return content, b"Content-Type: multipart/form-data; boundary=X\r\n"


def test_django_reads_chunked_bodies_like_any_other(bodies: Server) -> None:
    status, body = asked(bodies, "body", b"x" * 50_000)
    assert (status, json.loads(body)) == (200, {"size": 50_000, "length": "50000"})
    fields = b"Content-Type: application/x-www-form-urlencoded\r\n"
    status, body = asked(bodies, "post", b"a=" + b"x" * 500, fields)
    assert (status, json.loads(body)) == (200, {"size": 500, "length": "502"})
    status, body = asked(bodies, "files", *form(100_000))
    assert (status, json.loads(body)) == (200, {"size": 100_000, "fields": ["last"]})
    # Longer than what is held.
    status, body = asked(bodies, "read", b"x" * 5_000_000)
    assert (status, json.loads(body)) == (200, {"size": 5_000_000})


def test_a_body_beyond_the_buffer_is_413_and_reaches_nobody(bodies: Server) -> None:
    status, body = asked(bodies, "body", b"x" * 3_000_000)
    assert (status, body) == (413, b"a body without a length, of more than chunked_buffer (2621440 bytes)\n")
    assert not bodies.project.path("mails").exists()


def test_a_page_that_does_not_exist_is_answered_at_once(bodies: Server) -> None:
    with opened(bodies, "none/such", CHUNKED) as sock:
        sock.sendall(b"5\r\nabcde\r\n")
        assert answer(sock)[0] == 404
    with opened(bodies, "untouched", CHUNKED + b"Expect: 100-continue\r\n") as sock:
        # Not 100: the view does not read.
        assert answer(sock)[0] == 200


def test_a_client_that_leaves_within_its_body_is_no_error(bodies: Server) -> None:
    """A form that is too short to begin, a long one that the view reads, and one without a length."""
    fields = b"Content-Type: application/x-www-form-urlencoded\r\n"
    for way in ("body", "post", "files", "read"):
        for framing in (b"Content-Length: 100\r\n", b"Content-Length: 1000000\r\n", CHUNKED):
            kind = form(1)[1] if way == "files" else fields
            with opened(bodies, way, framing + kind) as sock:
                sock.sendall(b"5\r\nabc")
                sock.shutdown(socket.SHUT_WR)
                assert answer(sock)[0] == 400
    assert not bodies.project.path("mails").exists()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_without_a_place_is_503_in_one_line(bodies: Server, framing: str) -> None:
    """A long form streams to the upload handlers; what they cannot write is neither the view's failure nor the client's."""
    body, kind = form(6_000_000)
    resource.prlimit(bodies.worker(), resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    if framing == "chunked":
        status, text = asked(bodies, "files", body, kind)
    else:
        with opened(bodies, "files", kind + b"Content-Length: %d\r\n" % len(body)) as sock:
            sock.sendall(body)
            status, text = answer(sock)
    assert (status, text) == (503, b"the upload could not be stored\n")
    bodies.wait_for("upload_not_stored")
    assert len(bodies.events("upload_not_stored")) == 1
    assert not bodies.project.path("mails").exists()


def test_a_long_form_without_a_length_streams_to_the_upload_handlers(bodies: Server) -> None:
    status, body = asked(bodies, "files", *form(6_000_000))
    assert (status, json.loads(body)) == (200, {"size": 6_000_000, "fields": ["last"]})
