"""The configurations that the page on proxies shows, in the real programs, before a real server."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.http.client import Client, eventually
from tests.http.conftest import Served
from tests.http.test_proxies import connects, program

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "proxies.md"
NGINX = """
daemon off; master_process off; error_log {folder}/log; pid {folder}/pid;
events {{}}
http {{ access_log off; {temporary}
{block}
}}
"""
LIES = b"".join(
    line + b"\r\n"
    for line in (
        b"X-Forwarded-For: 127.0.0.1, 6.6.6.6",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: evil.example",
        b"X-Forwarded-Port: 1",
        b"X-Forwarded-Prefix: /evil",
        b"X-Forwarded-Ssl: on",
        b"X-Forwarded-Protocol: ssl",
        b"Forwarded: for=6.6.6.6;proto=https",
    )
)


def block_with(text: str) -> str:
    """The first code block of the page in which this stands."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return next(str(block) for block in blocks if text in block)


@contextmanager
def running(name: str, text: str, folder: Path, port: int) -> Iterator[int]:
    file = folder / "conf"
    file.write_text(text)
    option = "-f" if name == "haproxy" else "-c"
    with (
        (folder / "err").open("w") as errors,
        subprocess.Popen([program(name), option, str(file)], stderr=errors) as process,
    ):
        try:
            eventually(lambda: connects(port), f"{name} listens")
            yield port
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def nginx(server: str, folder: Path, port: int) -> str:
    block = block_with("proxy_add_x_forwarded_for").replace("unix:/run/shop/shop.sock", f"unix:{server}")
    block = block.replace("client_max_body_size", f"listen 127.0.0.1:{port};\n    client_max_body_size")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    return NGINX.format(folder=folder, temporary=temporary, block=block)


def haproxy(server: int, port: int) -> str:
    block = block_with("option forwardfor")
    return block.replace("bind :80", f"bind 127.0.0.1:{port}").replace("127.0.0.1:8000", f"127.0.0.1:{server}")


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_a_client_cannot_lie_through_the_documented_proxies(
    serve: Callable[..., Served], name: str, tmp_path: Path
) -> None:
    server = serve(**({} if name == "haproxy" else {"unix": str(tmp_path / "s")}))
    port = free_port()
    text = haproxy(server.address, port) if name == "haproxy" else nginx(server.address, tmp_path, port)
    with running(name, text, tmp_path, port), Client(port, source="127.0.0.2") as client:
        for fields in (b"", LIES, LIES.lower(), LIES.upper()):
            answer = client.get("/environ", fields)
            assert answer.status == 200, answer
            found = json.loads(answer.body)
            assert found["REMOTE_ADDR"] == "127.0.0.2"
            assert (found["wsgi.url_scheme"], found["SERVER_PORT"], found["SCRIPT_NAME"]) == ("http", "80", "")
            assert found["HTTP_HOST"] == "test.example"
            assert set(found) & {"HTTP_FORWARDED", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_SSL"} == set()


def test_the_documented_line_announces_clients(serve: Callable[..., Served], tmp_path: Path) -> None:
    server = serve(proxy_protocol=True)
    port = free_port()
    backend = block_with("send-proxy-v2").replace("127.0.0.1:8000", f"127.0.0.1:{server.address}")
    front = f"frontend front\n  mode tcp\n  bind 127.0.0.1:{port}\n  default_backend shop\n"
    times = "defaults\n  timeout connect 5s\n  timeout client 9s\n  timeout server 9s\n"
    with running("haproxy", times + front + backend, tmp_path, port), Client(port) as client:
        found = json.loads(client.get("/environ").body)
        assert found["REMOTE_PORT"] == str(client.socket.getsockname()[1])
