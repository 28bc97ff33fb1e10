"""[in a machine of its own] What a ``Machine`` runs in its namespaces: it sets them up, then asks what it is told to ask.

It is root there. Nothing but the standard library is needed, as some interpreter outside of the namespaces runs it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

#: From <linux/sockios.h> and <linux/if.h>.
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
PATIENCE = 30.0
#: Folders that belong to this machine alone.
OWN = ("/srv", "/run", "/mnt", "/var/lib/nginx", "/var/log/nginx", "/var/lib/haproxy")


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def raise_loopback() -> None:
    """A new network has a loopback device that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(sock, SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP))


def open_to_everybody(needed: list[str]) -> None:
    """Cover what is closed to others above these folders (root's home), so that every user of this machine may read them."""
    closed = {path: outermost for path in map(Path, needed) if (outermost := first_closed(path))}
    for number, path in enumerate(closed):
        Path(f"/mnt/{number}").mkdir()
        mount("--bind", str(path), f"/mnt/{number}")
    for outermost in sorted({str(path) for path in closed.values()}):
        mount("-t", "tmpfs", "-o", "mode=755", "none", outermost)
    for number, path in enumerate(closed):
        path.mkdir(parents=True, exist_ok=True)
        mount("--bind", f"/mnt/{number}", str(path))


def first_closed(path: Path) -> Path | None:
    """The outermost folder above *path* that not everybody may enter."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & 1), None)


def add_user(name: str, number: int) -> None:
    """In copies of the two files, which lie over the system's."""
    for file, line in (
        ("passwd", f"{name}:x:{number}:{number}::/srv/{name}:/bin/sh\n"),
        ("group", f"{name}:x:{number}:\n"),
    ):
        copy = Path("/run") / file
        copy.write_text(Path("/etc", file).read_text() + line)
        mount("--bind", str(copy), f"/etc/{file}")


class Connection(HTTPConnection):
    """To a port or to a unix socket."""

    def __init__(self, address: str, source: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self.address = address
        self.source = (source, 0)

    def connect(self) -> None:
        if self.address.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(PATIENCE)
            self.sock.connect(self.address.removeprefix("unix:"))
        else:
            host, _, port = self.address.rpartition(":")
            self.sock = socket.create_connection((host, int(port)), PATIENCE, self.source)


def request(
    address: str, path: str, headers: dict[str, str], body: int | None, source: str, *, file: bool
) -> dict[str, Any]:
    """One request, with so many bytes; the answer, or the error."""
    connection = Connection(address, source)
    try:
        data = None if body is None else b"x" * body
        if data is not None and file:
            data = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + data + b"\r\n--b--\r\n"
            headers["Content-Type"] = "multipart/form-data; boundary=b"
        connection.request("GET" if body is None else "POST", path, data, {"Connection": "close", **headers})
        answer = connection.getresponse()
        return {
            "status": answer.status,
            "headers": dict(answer.getheaders()),
            "text": answer.read().decode(errors="replace"),
        }
    except OSError as error:
        return {"status": 0, "headers": {}, "text": repr(error)}
    finally:
        connection.close()


def main() -> None:
    """Set the machine up, say so, and serve until standard input ends."""
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: it ends with the test run
    settings = json.loads(sys.argv[1])
    mount("--make-rprivate", "/")
    raise_loopback()
    for folder in filter(os.path.isdir, OWN):
        mount("-t", "tmpfs", "-o", "mode=755", "none", folder)
    open_to_everybody(settings["needed"])
    add_user("shop", settings["uid"])
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(request(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
