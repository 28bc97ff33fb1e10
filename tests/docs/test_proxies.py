"""The configurations of the page on proxies, in the real programs, which run as another user than the server does."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.docs import shop
from tests.docs.blocks import Block, find, runs
from tests.docs.machine import Machine, Process, program
from tests.docs.service import Service, Unit

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a machine of its own")

PAGE = "howto/proxies.md"
UPLOAD = 20 << 20
CLIENT = "127.0.0.9"
LIES = {
    "X-Forwarded-For": "127.0.0.1, 6.6.6.6",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Ssl": "on",
    "X-Forwarded-Protocol": "ssl",
    "Forwarded": "for=6.6.6.6;proto=https",
}


def stranger() -> str:
    """A user that proxies have; nothing of the shop's is theirs."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("www-data", "nobody") if name in names)


def group_of(user: str) -> str:
    return str(pwd.getpwnam(user).pw_gid)


@contextmanager
def nginx(machine: Machine, text: str) -> Iterator[Process]:
    """The block where the distribution's configuration includes it."""
    machine.write("/run/nginx/conf.d/shop.conf", text)
    main = f"user {stranger()}; worker_processes 1; daemon off; pid /run/nginx/pid; error_log stderr;\n"
    main += "events {}\nhttp { access_log off; include /etc/nginx/mime.types; include /run/nginx/conf.d/*.conf; }\n"
    machine.write("/run/nginx/nginx.conf", main)
    with machine.running(program("nginx"), "-c", "/run/nginx/nginx.conf") as process:
        yield process


@contextmanager
def haproxy(machine: Machine, text: str) -> Iterator[Process]:
    """The block behind the section that the distribution has for the program itself."""
    who = f"global\n  uid {pwd.getpwnam('nobody').pw_uid}\n  gid {group_of('nobody')}\n"
    machine.write("/run/haproxy.cfg", f"{who}{text}")
    # A signal ends it at once: its graceful end waits for clients, of which there are none.
    with machine.running(program("haproxy"), "-f", "/run/haproxy.cfg") as process:
        yield process


@contextmanager
def djworker(machine: Machine, *words: str) -> Iterator[None]:
    """The server as the page on systemd has it, or with other words."""
    service = Service(machine, Unit(find("howto/deploy.md", "Description=The shop").text))
    if words:
        text = service.unit.text.replace("--bind unix:/run/shop/shop.sock", " ".join(words))
        service.systemd.close()
        service = Service(machine, Unit(text))
    with service.running():
        service.systemd.wait_for("READY=1")
        yield


def check_honest(machine: Machine) -> None:
    """Who asks, and how, is what the proxy has seen, whatever the client says; an upload arrives."""
    machine.until_answered("127.0.0.1:80")
    changed = [
        {},
        LIES,
        *({getattr(name, case)(): value for name, value in LIES.items()} for case in ("lower", "upper")),
    ]
    for headers in changed:
        answer = machine.request("127.0.0.1:80", source=CLIENT, headers=headers)
        assert answer.status == 200, answer
        found = answer.json()
        assert found["REMOTE_ADDR"] == CLIENT
        assert (found["wsgi.url_scheme"], found["SERVER_PORT"], found["SCRIPT_NAME"]) == ("http", "80", "")
        assert found["HTTP_HOST"] == "shop.example"
        assert set(found) & {"HTTP_FORWARDED", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_SSL"} == set()
    sent = machine.request("127.0.0.1:80", "/upload", body=UPLOAD)
    assert (sent.status, sent.text) == (200, str(UPLOAD))


@runs(PAGE, "proxy_add_x_forwarded_for")
def test_the_documented_nginx_reaches_the_documented_unit(machine: Machine, blocks: tuple[Block]) -> None:
    with djworker(machine), nginx(machine, blocks[0].text):
        check_honest(machine)


@runs(PAGE, "option forwardfor", "send-proxy-v2", '"PROXY_PROTOCOL": True')
def test_the_documented_haproxy_tells_who_asks(machine: Machine, project: object, blocks: tuple[Block, ...]) -> None:
    with djworker(machine, "--bind", "127.0.0.1:8000"), haproxy(machine, blocks[0].text):
        check_honest(machine)
    shop.append(machine.path("/srv/shop/shop/settings.py"), blocks[2].text)
    with djworker(machine, "--bind", "127.0.0.1:8000"), haproxy(machine, blocks[1].text):
        machine.until_answered("127.0.0.1:80")
        assert machine.request("127.0.0.1:80", source=CLIENT).json()["REMOTE_ADDR"] == CLIENT
