"""How each server is started. Access logs are off, keep-alive is on, and each is given what its own documentation advises."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.proc import Process

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Server:
    """A server's command line, with holes for {python} {port} {app} {workers} and {threads}."""

    distribution: str
    template: tuple[str, ...]
    worker_mark: str = ""  # part of a worker's command line, where not every child is a worker

    @property
    def version(self) -> str:
        """What is installed, for the record."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    def command(
        self, *, port: int, app: str, workers: int = 1, threads: int = 1, options: Sequence[str] = ()
    ) -> list[str]:
        """The words of the command line; `options` come last and so win."""
        holes = {"python": sys.executable, "port": port, "app": app, "workers": workers, "threads": threads}
        return [*(word.format_map(holes) for word in self.template), *options]

    def workers(self, root: int, tree: Sequence[Process]) -> list[Process]:
        """Those of the tree that answer requests: the children of the first process, or itself when it has none."""
        children = [one for one in tree if one.parent == root and self.worker_mark in one.command]
        return children or [one for one in tree if one.pid == root]


def _gunicorn(*words: str) -> Server:
    common = (
        "--bind=" + HOST + ":{port}",
        "--workers={workers}",
        "--keep-alive=75",
        "--log-level=warning",
        "--no-control-socket",
    )
    return Server("gunicorn", ("{python}", "-m", "gunicorn", "{app}", *common, *words))


SERVERS = {
    # The application is the setting WSGI_APPLICATION, as in any project. The mold is a child too, but no worker.
    "djworker": Server(
        "djworker",
        ("{python}", "manage.py", "runworkers", HOST + ":{port}", "--workers={workers}", "--log-level=warning"),
        worker_mark="djworker: worker",
    ),
    "gunicorn gevent": _gunicorn("--worker-class=gevent"),
    "gunicorn gthread": _gunicorn("--worker-class=gthread", "--threads={threads}"),
    "granian": Server(
        "granian",
        (
            *(
                "{python}",
                "-m",
                "granian",
                "{app}",
                "--interface=wsgi",
                f"--host={HOST}",
                "--port={port}",
                "--http=1",
                "--no-ws",
            ),
            *("--workers={workers}", "--blocking-threads={threads}", "--runtime-mode=st", "--log-level=warning"),
        ),
    ),
    "pywsgi": Server("gevent", ("{python}", "-m", "tests.benchmarks.pywsgi", "{port}", "{app}")),
}
