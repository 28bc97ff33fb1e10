"""Early answers behind the proxies that most sites have in front."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.http.client import Client, eventually
from tests.http.conftest import Served
from tests.ports import free_port

HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  server one 127.0.0.1:{server} {server_options}
"""
NGINX = """
daemon off; master_process off; error_log {folder}/log; pid {folder}/pid;
events {{}}
http {{
  access_log off; client_max_body_size 0;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_request_buffering off; proxy_http_version 1.1; proxy_pass http://127.0.0.1:{server}; }}
  }}
}}
"""


def program(name: str) -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    assert found, f"{name} is not installed (make packages)"
    return found


@contextmanager
def proxy(name: str, server: int, folder: Path, server_options: str = "") -> Iterator[int]:
    """Start a proxy before a server; its port."""
    port = free_port()
    file = folder / "conf"
    template = HAPROXY if name == "haproxy" else NGINX
    file.write_text(template.format(port=port, server=server, folder=folder, server_options=server_options))
    option = "-f" if name == "haproxy" else "-c"
    with subprocess.Popen([program(name), option, str(file)], stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: connects(port), f"{name} listens")
            yield port
        finally:
            process.kill()


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_early_answers_to_large_uploads_arrive_through_a_proxy(
    serve: Callable[..., Served], name: str, tmp_path: Path
) -> None:
    server = serve(limit_request_body=1000, keep_alive=0)
    with proxy(name, server.address, tmp_path) as port:
        for mib in (8, 30, 30):
            with Client(port) as client:
                assert client.post("/echo", b"x" * (mib << 20)).status == 413
