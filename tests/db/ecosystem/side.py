"""One project on one engine, in a process of its own: `python -m tests.db.ecosystem.side PROJECT SIDE`.

SIDE is `prepare` (make the tables), `django` (Django's engine in threads, as under gunicorn), `transaction` or `request`
(ours, in a patched process: its threads are greenlets). The database comes as JSON in the environment. The answers of all
visits go to standard output, as JSON.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[2] in ("transaction", "request"):
    from djworker.mold.patches import patching

    patching.patch_all()

import importlib
import json
import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from tests.db.lease.site import DRIVERS, choose

#: Copies of a visit at once, and neighbours beside them. The pool has less.
COPIES, NEIGHBOURS = 4, 3
POOL = {"max_size": 2, "timeout": 20}
#: Seconds for one visit. One that takes so long hangs.
LIMIT = 100.0


def installed(module: str) -> bool:
    """Whether the process has this library; packages for the other one are left out of the project."""
    return sys.modules.get(module, module) is not None and find_spec(module) is not None


def alone(visit: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a visit that changes something of the whole process: one copy of it, and nothing beside it."""
    visit.copies = 1  # type: ignore[attr-defined]
    return visit


def fetch(path: str, host: str = "testserver", **headers: str) -> str:
    """What the project answers to a request."""
    from django.core.wsgi import get_wsgi_application
    from django.test import RequestFactory

    with _building:
        if not _application:
            _application.append(get_wsgi_application())
    environ = RequestFactory(SERVER_NAME=host).get(path, headers={"host": host, **headers}).environ
    status: list[str] = []
    response = _application[0](environ, lambda line, _headers: status.append(line))
    try:
        return f"{status[0][:3]} {b''.join(response).decode()}"
    finally:
        response.close()


_application: list[Any] = []
_building = threading.Lock()


class Running(threading.Thread):
    """One request, with what a server does around a view. What went wrong is its answer, too."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__(daemon=True)
        self._function, self._args = function, args
        self.value: Any = "HANGS"
        self.start()

    def run(self) -> None:
        """In a thread of its own; in a patched process, a greenlet."""
        from django.core.signals import request_finished, request_started

        request_started.send(sender=None, environ={"REQUEST_METHOD": "GET", "PATH_INFO": "/visit/"})
        try:
            self.value = self._function(*self._args)
        except Exception as error:  # noqa: BLE001 - an answer
            if os.environ.get("ECOSYSTEM_SHOW"):
                traceback.print_exc()
            self.value = type(error).__name__
        finally:
            request_finished.send(sender=None)

    def get(self, seconds: float = LIMIT) -> Any:
        """Wait for it; its answer."""
        self.join(seconds)
        return self.value


# -- neighbours -----------------------------------------------------------------------------------------------------------

NOISE = {
    "postgres": (
        "SET search_path TO pg_catalog",
        "SET statement_timeout = 4321",
        "SELECT set_config('app.tenant', 'a neighbour''s', false)",
        "CREATE TEMP TABLE noise (x int)",
        "SELECT pg_try_advisory_lock(4711)",
        "SELECT nonsense",
        "SELECT pg_sleep(0.003)",
    ),
    "mysql": (
        "SET @mine = 4711",
        "SET SESSION sql_mode = 'ANSI_QUOTES'",
        "CREATE TEMPORARY TABLE noise (x int)",
        "SELECT GET_LOCK('noise', 0)",
        "SELECT nonsense",
        "SELECT SLEEP(0.003)",
    ),
}


def neighbour(dialect: str) -> None:
    """A request of somebody else: some statements, in a transaction or not, some of which fail."""
    from django.db import DatabaseError, connection, transaction

    def work() -> None:
        for _ in range(random.randint(1, 3)):
            with suppress(DatabaseError), connection.cursor() as cursor:  # careless, as neighbours are
                cursor.execute(random.choice(NOISE[dialect]))
            time.sleep(0.001)

    chance = random.random()
    if chance < 0.3:
        with transaction.atomic():
            work()
    elif chance < 0.5:
        with transaction.atomic(), connection.cursor() as cursor:
            with suppress(DatabaseError):
                cursor.execute("SELECT nonsense")
            time.sleep(0.008)  # a transaction that has failed, and is not rolled back yet
    else:
        work()


@contextmanager
def noise(dialect: str) -> Iterator[None]:
    """Neighbours, for as long as it takes."""
    over = threading.Event()

    def until_over() -> None:
        while not over.wait(0.002):
            Running(neighbour, dialect).get()

    neighbours = [threading.Thread(target=until_over) for _ in range(NEIGHBOURS)]
    for thread in neighbours:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in neighbours:
            thread.join()


# -- a side ---------------------------------------------------------------------------------------------------------------


def answers(visits: dict[str, tuple[Callable[..., Any], ...]], dialect: str) -> dict[str, Any]:
    """What all visits find, by package and name."""
    found: dict[str, Any] = {}
    with noise(dialect):
        for package, functions in visits.items():
            for function in functions:
                copies = [Running(function, number) for number in range(getattr(function, "copies", COPIES))]
                found.setdefault(package, {})[function.__name__] = [copy.get() for copy in copies]
    return found


def main(project: str, side: str) -> None:
    """Set the project up as its own settings say, and visit it."""
    spec = json.loads(os.environ["ECOSYSTEM"])
    dialect = DRIVERS[spec["driver"]].dialect
    choose(spec["driver"])
    if spec["driver"] == "psycopg2":
        sys.modules["psycopg"] = None  # type: ignore[assignment]  # packages look for it as Django does
    from django.conf import settings

    ours = side in ("transaction", "request")
    chosen = importlib.import_module(f"tests.db.ecosystem.{project}.settings").settings(
        spec["database"], dialect, ours=ours
    )
    settings.configure(**{"DJWORKER": {"POOL": {**POOL, "lease": side}} if ours else {}, **COMMON, **chosen})
    if ours:
        from djworker.db import engines

        engines.install(settings)
    import django

    django.setup()
    if side == "prepare":
        importlib.import_module(f"tests.db.ecosystem.{project}.settings").prepare()
        return
    visits = importlib.import_module(f"tests.db.ecosystem.{project}.visits")
    found = answers(visits.VISITS, dialect)
    json.dump(found, _stdout, default=str)
    _stdout.flush()
    from django.db import connections

    connections.close_all()


COMMON: dict[str, Any] = {
    "SECRET_KEY": "as short as its life",
    "ALLOWED_HOSTS": ["*"],
    "USE_TZ": True,
    "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
    "LOGGING_CONFIG": None,
}

if __name__ == "__main__":
    _stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(*sys.argv[1:])
