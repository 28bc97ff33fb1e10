"""Who stops and starts a database server on behalf of a test that runs in another process.

    with PostgresServer() as server, Operator(server) as operator:
        operator.stop("immediate")
        operator.start()

Pickled, it is a remote control: the server stays the child of the process that made the operator.
"""

from __future__ import annotations

import json
import socket
import threading
from typing import Any, Self

from tests.db.servers import DatabaseServer

HOST = "127.0.0.1"
ANSWER_DEADLINE = 90.0  # seconds: a database that crashed recovers first


class Operator:
    """One server's."""

    def __init__(self, server: DatabaseServer) -> None:
        self.server = server
        self.port = 0
        self._listener: socket.socket | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_listener": None}

    def __enter__(self) -> Self:
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        # One thread for all orders: the kernel tells a server of the death of the thread that started it (prctl(2)).
        threading.Thread(target=self._listen, args=(self._listener,), name="operator", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._say("go")
        assert self._listener is not None
        self._listener.close()

    def stop(self, mode: str = "fast") -> None:
        """See `DatabaseServer.stop`."""
        self._say("stop", mode)

    def start(self) -> None:
        """Return when the server answers."""
        self._say("start")

    def _say(self, *order: str) -> None:
        with socket.create_connection((HOST, self.port), ANSWER_DEADLINE) as line, line.makefile("rw") as stream:
            stream.write(json.dumps(order) + "\n")
            stream.flush()
            trouble = json.loads(stream.readline())
        assert not trouble, trouble

    def _listen(self, listener: socket.socket) -> None:
        verb = ""
        while verb != "go":
            line, _ = listener.accept()
            with line, line.makefile("rw") as stream:
                verb, *arguments = json.loads(stream.readline())
                stream.write(json.dumps(self._obey(verb, arguments)) + "\n")

    def _obey(self, verb: str, arguments: list[str]) -> str:
        try:
            getattr(self.server, "stop" if verb == "go" else verb)(*arguments)
        except Exception as error:  # noqa: BLE001 - told where it was asked for
            return repr(error)
        return ""
