"""A process with one server: ``python -m tests.http.serve OPTIONS``, options as JSON.

Prints its port. Reads commands from standard input, a line each, and answers each with a line of JSON.
``python -m tests.http.serve DESCRIPTOR`` forks such processes: see ``tests.forking``. Their options come on standard input first.
"""

# ruff: noqa: E402
from djworker.mold.patches import patching

patching.patch_all()

import _socket
import dataclasses
import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import gevent
from gevent.os import tp_read

from djworker import log
from djworker.conf.table import Config
from djworker.http.server import Server
from djworker.ipc import in_flight
from djworker.ipc.scoreboard import Row
from djworker.log.access import access_logger
from djworker.worker.acceptor import Acceptor
from tests import forking
from tests.http import apps

SWEEP = 0.05
#: Bytes that are read of standard input at once: more than options have, and commands.
MOST = 65_536


class Process:
    """Accepts as a worker does."""

    def __init__(self, options: dict[str, Any]) -> None:
        log.configure("debug", "json", "worker")
        access = options.pop("access", None)
        if access:
            log.configure_access(access)
        if files := options.pop("nofile", 0):
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        noted = options.pop("noted", False)
        path = options.pop("unix", None)
        config = dataclasses.replace(Config(), **options)
        self.socket = _socket.socket(_socket.AF_UNIX if path else _socket.AF_INET)
        self.socket.bind(path or ("127.0.0.1", 0))
        self.socket.listen(4096)
        self.socket.setblocking(False)
        address = self.socket.getsockname()
        self.server = Server(
            apps.application,
            config,
            server_address=address,
            access=access_logger(config.access_log_format) if access else None,
        )
        if noted:
            self.row = Row.create(in_flight.SIZE)
            self.server.records = in_flight.Records(self.row.fileno())
        self.acceptor = Acceptor(self.server, [self.socket])
        print(json.dumps(address if path else address[1]), flush=True)

    def run(self) -> None:
        self.acceptor.start()
        gevent.spawn(self.sweep)
        rest = b""
        while data := tp_read(0, MOST):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                print(json.dumps(self.command(*line.decode().split())), flush=True)

    def sweep(self) -> None:
        while True:
            gevent.sleep(SWEEP)
            self.server.sweep(time.monotonic())

    def found(self, what: str) -> Any:
        """The greenlet of a request with this in its URL or phase, as soon as there is one."""
        while True:
            for item in self.server.in_flight():
                if what in item.url + item.phase:
                    return item.greenlet
            gevent.sleep(0)

    def command(self, name: str, *arguments: str) -> object:
        server = self.server
        if name == "drain":
            server.drain()
        elif name == "open":
            apps.gate(arguments[0]).set()
        elif name == "flight":
            return [[*item[:3], item.phase] for item in server.in_flight()]
        elif name == "show":
            return [repr(server), *map(repr, server.busy)]
        elif name == "collect":
            gc.collect()
        elif name == "noted":
            return [lost.head.decode() for lost in in_flight.read(self.row.fileno())]
        elif name == "kill":
            gevent.kill(self.found(arguments[0]))
        return {
            "open": server.open,
            "idle": server.idle,
            "running": server.running,
            "total": server.total,
            "fds": len(list(Path("/proc/self/fd").iterdir())),
            "rss": resident_kib(),
            "files": sum(path.is_file() for path in Path("/proc/self/fd").iterdir()),
            "greenlets": sum(isinstance(thing, gevent.Greenlet) for thing in gc.get_objects()),
            **apps.counts,
        }


def resident_kib() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main(words: list[str]) -> None:
    """Run a server. The options are the one word, or the first line of standard input in a process that was forked."""
    if words[0].isdecimal():
        forking.serve_forks(int(words[0]))
        words = [os.read(0, MOST).decode()]
    Process(json.loads(words[0])).run()


if __name__ == "__main__":
    main(sys.argv[1:])
