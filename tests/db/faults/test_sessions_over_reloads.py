"""How many sessions the database server counts while one reload follows another, and requests of old workers run on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.db.servers import PostgresServer
from tests.processes.events import eventually
from tests.processes.project import URLS, Project
from tests.processes.server import Server

WORKERS, MAX_SIZE, LONG = 2, 4, 16
#: The connection of the child that asks a new generation, before workers are replaced.
PROBE = 1

VIEWS = """
import os, time
from django.conf import settings
from django.db import connection, transaction
from django.http import JsonResponse
from testproject.shop import VERSION

def ask(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()

def short(request):
    with transaction.atomic():
        ask("SELECT pg_sleep(0.03)")
    return JsonResponse({"pid": os.getpid(), "version": VERSION})

def long(request):
    short(request)
    (settings.BASE_DIR / f"long-{id(request)}-{time.monotonic_ns()}").touch()
    while not (settings.BASE_DIR / "go").exists():
        time.sleep(0.02)
    ask("SELECT 1")
    return JsonResponse({"pid": os.getpid(), "version": VERSION})

urlpatterns += [path("short", short), path("long", long)]
"""


@contextmanager
def counted(server: PostgresServer, name: str) -> Iterator[list[int]]:
    """What the server counts, all the time."""
    found: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            found.append(server.connections(name))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield found
    finally:
        done.set()
        looker.join()


def test_two_reloads_in_a_row_stay_within_the_promise(
    server: Server, project: Project, postgres: PostgresServer, postgres_db: str
) -> None:
    """(workers + 1) × max_size and the probe's own, though requests of three generations run side by side.

    What the last short requests of a worker hold that drains comes on top, and on a busy machine they last.
    """
    project.append(URLS, VIEWS)
    project.settings(POOL={"max_size": MAX_SIZE})
    server.start(workers=WORKERS, graceful_timeout=30, environ={"DATABASE_URL": postgres.url(postgres_db)})
    old = [server.in_background("/long", timeout=60) for _ in range(LONG)]
    eventually(lambda: len(list(project.folder.glob("long-*"))) == LONG, "they have asked, and wait for somebody else")
    with server.load(path="/short", clients=12) as load, counted(postgres, postgres_db) as found:
        load.wait_for_answers(50)
        for version in (2, 3):
            project.set_version(version)
            server.reload()
            load.wait_for_answers(100)
            eventually(lambda: found[-1] <= WORKERS * MAX_SIZE, "what drains has given back what it does not need")
        assert max(found) > MAX_SIZE, "both workers have some"
        assert max(found) <= (WORKERS + 1) * MAX_SIZE + PROBE + MAX_SIZE, found
        project.path("go").touch()
        assert [request.answer().json()["version"] for request in old] == [old[0].answer().json()["version"]] * LONG
        load.stop()
        load.assert_nothing_lost()
