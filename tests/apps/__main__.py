"""``python -m tests.apps [APPLICATION …]``: crawl applications on both servers, and write the page of the docs."""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.apps import oscar, pretix, report, servers, thirty, venv, wagtail, weblate
from tests.apps.application import MARIADB, POSTGRES, Application, ApplicationFailed, Place
from tests.apps.comparison import Comparison, Normaliser, compare
from tests.apps.crawler import CLIENTS, VISITS, LoginFailed, Map, Visit, crawl, explore
from tests.apps.visitor import Answer
from tests.db.servers import DatabaseServer, MariaDBServer, PostgresServer
from tests.ports import free_port

APPLICATIONS: Final = {
    module.__name__.rpartition(".")[2]: module.APPLICATION for module in (wagtail, oscar, pretix, weblate, thirty)
}
_SERVERS: Final = {POSTGRES: PostgresServer, MARIADB: MariaDBServer}
_ENGINES: Final = {POSTGRES: "django.db.backends.postgresql", MARIADB: "django.db.backends.mysql"}
#: The reload begins when so many of all visits have begun.
_RELOAD_AFTER: Final = CLIENTS * VISITS // 4


def main(arguments: Sequence[str]) -> int:
    """Return 0 where every answer was equal or unstable, every bound was kept, and every reload done."""
    parser = argparse.ArgumentParser(prog="python -m tests.apps", description=__doc__)
    parser.add_argument("applications", nargs="*", metavar="APPLICATION", help=f"Of {', '.join(APPLICATIONS)}.")
    parser.add_argument("--database", choices=tuple(_SERVERS), help="Only this one.")
    parser.add_argument("--python", default=sys.executable, help="The interpreter of the environments.")
    parser.add_argument("--page", action="store_true", help="Write the page from the last results, and run nothing.")
    options = parser.parse_args(arguments)
    if unknown := set(options.applications) - set(APPLICATIONS):
        parser.error(f"no such application: {', '.join(sorted(unknown))}")
    failures = 0 if options.page else _run_all(options)
    report.write(list(APPLICATIONS.values()))
    return 1 if failures else 0


def _run_all(options: argparse.Namespace) -> int:
    failures = 0
    for name in options.applications or APPLICATIONS:
        application = APPLICATIONS[name]
        for database in application.databases:
            if options.database in (None, database):
                failures += not _try(name, application, database, options.python)
    return failures


def _try(name: str, application: Application, database: str, base: str) -> bool:
    """Run one application on one database; whether all is well. What does not start is told, and the others go on."""
    print(f"== {application.name} on {database}", flush=True)
    try:
        return _run(name, application, database, base)
    except (ApplicationFailed, servers.ServerFailed, LoginFailed) as error:
        print(f"{application.name} on {database}: {error}", flush=True)
        return False


def _run(name: str, application: Application, database: str, base: str) -> bool:
    python = venv.python_of(name, application.packages, base)
    folder = venv.cache() / "runs" / f"{name}-{database.lower()}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "project").mkdir(parents=True)
    with _SERVERS[database]() as server, servers.redis(folder) as redis:
        server.create_database("app")
        place = Place(python, folder / "project", _entry(server, database), redis, application.variables)
        application.prepare(place)
        result = _crawl_both(application, place, server, folder, database)
    report.keep(result)
    print(result, flush=True)
    return not result.unlike and result.most <= servers.BOUND + servers.MOLDS and result.reload == "done"


def _entry(server: DatabaseServer, database: str) -> dict[str, str]:
    login = {"USER": server.user, "PASSWORD": server.password, "HOST": server.host, "PORT": str(server.port)}
    return {"ENGINE": _ENGINES[database], "NAME": "app", **login}


def _crawl_both(
    application: Application, place: Place, server: DatabaseServer, folder: Path, database: str
) -> report.Result:
    port = free_port()
    with servers.gunicorn(application, place, port, folder / "gunicorn.log"):
        pages = explore(application, port)
        reference, again = (_told("gunicorn", crawl(application, port, pages, _nothing)) for _ in range(2))
    with (
        servers.djworker(application, place, port, folder / "djworker.log") as tried,
        servers.counted(server, "app") as count,
    ):
        with _reload_on_the_way(tried, count) as on_visit:
            answers = _told("djworker", crawl(application, port, pages, on_visit))
        done = tried.reloaded()
    found = compare(reference, again, answers, Normaliser(application.differs))
    _show(found, folder / "unlike.txt")
    return _result(application, place, database, pages, found, count, done=done)


def _nothing() -> None:
    """Visits of the reference are not counted."""


def _told(who: str, answers: dict[Visit, Answer]) -> dict[Visit, Answer]:
    statuses: dict[int, int] = {}
    for answer in answers.values():
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
    print(f"{who}: {dict(sorted(statuses.items()))}", flush=True)
    return answers


@contextmanager
def _reload_on_the_way(server: servers.Server, count: servers.Count) -> Iterator[Callable[[], None]]:
    """Give what is called before each visit: one of them brings the reload."""
    begun, lock = 0, threading.Lock()

    def on_visit() -> None:
        nonlocal begun
        with lock:
            begun += 1
            if begun == _RELOAD_AFTER:
                count.reloading.set()
                server.reload()

    yield on_visit


def _show(found: Comparison, path: Path) -> None:
    """Write down how answers differ."""
    lines = [f"{visit}\n{difference}\n" for visit, difference in found.unlike.items()]
    unstable = [f"{page}\n{difference}\n" for page, difference in sorted(found.unstable.items())]
    path.write_text("\n".join([*lines, "unstable, between two runs of gunicorn:", *unstable]))
    for line in lines[:5]:
        print(line)
    if lines:
        print(f"{len(lines)} answers differ: {path}", flush=True)


def _result(
    application: Application,
    place: Place,
    database: str,
    pages: Map,
    found: Comparison,
    count: servers.Count,
    **more: Any,
) -> report.Result:
    named = [application.packages[0].partition("[")[0].partition("=")[0], "Django", "djworker", "gunicorn"]
    return report.Result(
        application=application.name,
        database=database,
        day=dt.datetime.now(dt.UTC).date().isoformat(),
        versions=venv.versions(place.python, named),
        pages=len(pages.anonymous) + len(pages.logged_in),
        visits=found.equal + found.unstable_visits + len(found.unlike),
        equal=found.equal,
        unstable=found.unstable_visits,
        unlike=len(found.unlike),
        most_before=count.most_before,
        most=count.most,
        reload="done" if more["done"] else "failed",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
