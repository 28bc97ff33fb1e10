"""What Django sees of a client behind a proxy, and addresses that proxies use: every family, abstract sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
from http.client import HTTPResponse
from typing import Any
from uuid import uuid4

import pytest

from tests.processes.http import Address, Answer, read_answer
from tests.processes.project import SETTINGS
from tests.processes.server import Server

VIEW_CODE = """
from django.http import JsonResponse as _Json
from django.views.decorators.csrf import csrf_protect as _protect

@_protect
def proxied_view(request):
    meta = {name: request.META[name] for name in sorted(request.META) if "FORWARDED" in name}
    return _Json({"secure": request.is_secure(), "client": request.META["REMOTE_ADDR"], "meta": meta,
                  "url": request.build_absolute_uri(), "port": request.get_port()})
"""
PROXY_SETTINGS = (
    "ALLOWED_HOSTS = ['*']\nUSE_X_FORWARDED_HOST = True\nSECURE_PROXY_SSL_HEADER = ('HTTP_X_FORWARDED_PROTO', 'https')"
)
TOKEN = "t" * 32
FORWARDED = {
    "X-Forwarded-For": "6.6.6.6, 192.0.2.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "shop.example",
    "X-Forwarded-Prefix": "/app",
}


@pytest.fixture
def proxied(server: Server) -> Server:
    """A server that is not started yet, with a view that tells what Django sees."""
    server.project.add_view(VIEW_CODE, "proxied_view", "proxied")
    return server


def connected(address: Address, source: str) -> socket.socket:
    if address.is_unix:
        return address.connect()
    return socket.create_connection((address.host, address.port), 30, (source, 0))


def ask(address: Address, fields: dict[str, str], *, method: str = "GET", source: str = "127.0.0.1") -> Answer:
    """Ask from one of this machine's addresses."""
    with connected(address, source) as sock:
        lines = {"Host": "inner.example", "Connection": "close", "Content-Length": "0", **fields}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        sock.sendall(f"{method} /proxied HTTP/1.1\r\n{head}\r\n".encode())
        response = HTTPResponse(sock)
        response.begin()
        return read_answer(response)


def seen(*args: Any, **kwargs: Any) -> dict[str, Any]:
    answer = ask(*args, **kwargs)
    assert answer.status == 200, answer
    return json.loads(answer.body)  # type: ignore[no-any-return]


def test_a_project_moves_from_gunicorn_with_its_proxy(proxied: Server) -> None:
    """TLS ends in the proxy, and Django's settings say nothing of it: a checked POST was refused with 403."""
    proxied.project.append(SETTINGS, "ALLOWED_HOSTS = ['*']")
    access = proxied.scratch / "access"
    proxied.start(bind=["127.0.0.1:0", f"unix:{proxied.scratch}/sock"], workers=1, access_log=access)
    for event in proxied.events("listening"):
        address = Address(event["address"])
        found = seen(address, FORWARDED)
        assert (found["secure"], found["client"], found["port"]) == (True, "192.0.2.1", "443")
        # As with gunicorn: without USE_X_FORWARDED_HOST, the host is the request's.
        assert found["url"] == "https://inner.example/app/proxied"
        form = {"Cookie": f"csrftoken={TOKEN}", "X-CSRFToken": TOKEN, "Origin": "https://inner.example"}
        assert ask(address, FORWARDED | form, method="POST").status == 200
        assert ask(address, form, method="POST").status == 403
        assert seen(address, {})["client"] == "127.0.0.1"
        assert ask(address, FORWARDED | {"X-Forwarded-Ssl": "off"}).status == 400
    proxied.stop()
    assert json.loads(access.read_text().splitlines()[0])["client"] == "192.0.2.1"


def test_strangers_are_not_believed_once_the_proxies_are_named(proxied: Server) -> None:
    proxied.project.append(SETTINGS, PROXY_SETTINGS)
    proxied.start(workers=1, environ={"FORWARDED_ALLOW_IPS": "127.0.0.3,10.0.0.0/8"})
    found = seen(proxied.address, FORWARDED, source="127.0.0.2")
    assert found == {
        "secure": False,
        "client": "127.0.0.2",
        "meta": {},
        "url": "http://inner.example/proxied",
        "port": str(proxied.address.port),
    }
    removed = proxied.wait_for("forwarded_removed")
    assert removed["peer"] == "127.0.0.2"
    found = seen(proxied.address, FORWARDED, source="127.0.0.3")
    assert (found["client"], found["url"]) == ("192.0.2.1", "https://shop.example/app/proxied")
    seen(proxied.address, FORWARDED, source="127.0.0.4")
    assert len(proxied.events("forwarded_removed")) == 1
    assert not [event for event in proxied.events("check") if "W009" in event["id"]]


def test_what_django_was_told_to_trust_goes_on_until_the_proxies_are_named(proxied: Server) -> None:
    """A container: the proxy has another address, gunicorn handed its fields on, and Django's settings rely on them."""
    proxied.project.append(SETTINGS, PROXY_SETTINGS)
    proxied.start(workers=1, bind="0.0.0.0:0")
    assert proxied.wait_for("check", id="djworker.W009")
    found = seen(proxied.address, FORWARDED, source="127.0.0.2")
    assert (found["secure"], found["client"]) == (True, "127.0.0.2")
    assert found["url"] == "https://shop.example/proxied"
    assert found["meta"]["HTTP_X_FORWARDED_FOR"] == "6.6.6.6, 192.0.2.1"


def test_every_interface_of_ipv6_serves_both_families(proxied: Server) -> None:
    proxied.start(workers=1, bind="[::]:0", forwarded_allow_ips=["127.0.0.1"])
    port = proxied.address.port
    answers = {host: seen(Address(f"http://{host}:{port}"), {}, source="") for host in ("127.0.0.1", "[::1]")}
    assert [found["client"] for found in answers.values()] == ["127.0.0.1", "::1"]
    assert seen(Address(f"http://127.0.0.1:{port}"), FORWARDED)["client"] == "192.0.2.1"
    assert seen(Address(f"http://[::1]:{port}"), FORWARDED, source="::1")["client"] == "::1"


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="only Linux has abstract sockets")
def test_an_abstract_socket_outlives_reloads_and_a_new_program(server: Server) -> None:
    name = f"djworker {uuid4().hex}"
    server.start(bind=f"unix:@{name}", socket_mode="600", workers=1)
    assert server.url == f"unix:@{name}"
    with server.load(clients=2) as load:
        load.wait_for_answers()
        server.reload()
        mark = server.send(signal.SIGUSR2)
        server.wait_for("arbiter_started", since=mark)
        load.wait_for_answers()
    load.assert_nothing_lost()
    assert server.stop() == 0
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(f"\0{name}")
