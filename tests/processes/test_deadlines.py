"""``request_timeout`` and ``kill`` on real trees, with each database library and both leases: who gets what, and what is left."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.db.fixtures import mariadb, postgres
from tests.db.servers import DatabaseServer
from tests.docs.blocks import ROOT
from tests.processes.control import ask
from tests.processes.events import Event, eventually
from tests.processes.http import Raw
from tests.processes.project import SETTINGS, URLS, copy_template
from tests.processes.server import Server

__all__ = ["mariadb", "postgres"]

REFERENCE = ROOT / "docs" / "reference" / "events.md"
#: What every event has.
COMMON = {"event", "time", "level", "message", "pid", "role"}
#: Seconds of ``request_timeout``; a sweep and a slow machine may be late.
LIMIT = 1
#: Times that something is tried which a busy machine may be too slow for.
ATTEMPTS = 5
LIBRARIES = {
    "psycopg": ("postgres", ""),
    "psycopg2": (
        "postgres",
        (
            "import sys, importlib; sys.modules['psycopg'] = None; importlib.import_module('django.db.backends.postgresql.base');"
            " del sys.modules['psycopg']"
        ),
    ),
    "mysqlclient": ("mariadb", ""),
    "pymysql": ("mariadb", "import pymysql; pymysql.install_as_MySQLdb()"),
}
#: "default" leases by the transaction, "kept" by the request. Each has one connection.
ALIASES = """
DATABASES = {"default": dict(DATABASES["default"]), "kept": dict(DATABASES["default"])}
DJWORKER = {"POOL": {"max_size": 1, "timeout": 60}, "POOLS": {"kept": {"lease": "request"}} if LEASED else {}}
"""
VIEWS = """
import asyncio, gevent, os, time
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from djworker.deadlines import RequestTimeout, deadline, extend_deadline, no_deadline, remaining

ended = []

def sleep_sql(alias, seconds):
    return f"SELECT {'pg_sleep' if connections[alias].vendor == 'postgresql' else 'SLEEP'}({seconds})"

def run(alias, sql):
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None

def alias_of(request):
    return request.GET.get("alias", "default")

def take_time(request):
    if "long" in request.GET:
        extend_deadline(3600)

def make(request):
    run("default", "CREATE TABLE marks (n integer)")
    return HttpResponse("made")

def query(request):
    take_time(request)
    try:
        run(alias_of(request), sleep_sql(alias_of(request), 60))
    finally:
        ended.append("query")
    return HttpResponse("done")

def inside(request):
    take_time(request)
    alias = alias_of(request)
    with transaction.atomic(alias):
        run(alias, "INSERT INTO marks VALUES (1)")
        if "sleep" in request.GET:
            time.sleep(60)
        run(alias, sleep_sql(alias, 60))
    return HttpResponse("done")

def commits(request):
    with transaction.atomic():
        run("default", "INSERT INTO late VALUES (1)")
        run("default", "INSERT INTO marks VALUES (1)")
    return HttpResponse("done")

LATE = [
    "CREATE TABLE late (n integer)",
    "CREATE FUNCTION wait_long() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
    " EXECUTE FUNCTION wait_long()",
]

def late(request):
    for sql in LATE:
        run("default", sql)
    return HttpResponse("made")

def session(request):
    kind = connections[alias_of(request)].vendor
    [[number]] = run(alias_of(request), "SELECT pg_backend_pid()" if kind == "postgresql" else "SELECT CONNECTION_ID()")
    return HttpResponse(str(number))

def marks(request):
    alias = alias_of(request)
    [[number]] = run(alias, "SELECT count(*) FROM marks")
    return HttpResponse(f"{number} {connections[alias].in_atomic_block}")

def until_told(request):
    open(request.GET["until"] + ".begun", "w").close()
    while not os.path.exists(request.GET["until"]):
        time.sleep(0.01)

def holds(request):
    with transaction.atomic(alias_of(request)):
        run(alias_of(request), "SELECT 1")
        until_told(request)
    return HttpResponse("done")

holds = no_deadline(holds)

def sleeps(request):
    try:
        time.sleep(60)
    finally:
        ended.append("sleeps")

def swallows(request):
    for _ in range(int(request.GET["times"])):
        try:
            time.sleep(60)
        except BaseException as error:
            ended.append(type(error).__name__)
    return HttpResponse("at last")

@csrf_exempt
def body(request):
    return HttpResponse(str(len(request.read())))

def endless(request):
    def blocks():
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.append("endless")
    return StreamingHttpResponse(blocks())

async def waits(request):
    try:
        await asyncio.sleep(60)
    finally:
        ended.append("waits")

async def asks(request):
    take_time(request)
    try:
        await sync_to_async(run)(alias_of(request), sleep_sql(alias_of(request), 60))
    finally:
        ended.append("asks")

async def elsewhere(request):
    await sync_to_async(run, thread_sensitive=False)(alias_of(request), sleep_sql(alias_of(request), 60))

async def streams(request):
    async def blocks():
        try:
            yield b"first"
            await asyncio.sleep(60)
        finally:
            ended.append("streams")
    return StreamingHttpResponse(blocks())

def thread(request):
    gevent.get_hub().threadpool.apply(gevent.monkey.get_original("time", "sleep"), (5,))

def spins(request):
    end = time.monotonic() + float(request.GET["s"])
    while time.monotonic() < end:
        pass
    return HttpResponse("done")

def left(request):
    return HttpResponse(str(remaining()))

@deadline(30)
def longer(request):
    time.sleep(2)
    return HttpResponse(str(remaining()))

@deadline(30)
@deadline(1)
def inner(request):
    time.sleep(60)

@no_deadline
def free(request):
    time.sleep(2)
    return HttpResponse(str(remaining()))

def extended(request):
    extend_deadline(10)
    time.sleep(2)
    return HttpResponse(str(remaining()))

@no_deadline
def exports(request):
    def blocks():
        for _ in range(3):
            time.sleep(1)
            yield b"x"
    return StreamingHttpResponse(blocks())

def lingers(request):
    def tidy():
        try:
            time.sleep(60)
        finally:
            ended.append("lingers")
    response = HttpResponse(bytes(int(request.GET["size"])))
    response._resource_closers.append(tidy)
    return response

def stuck(request):
    connections["default"].close = lambda: time.sleep(60)
    time.sleep(60)

@deadline(1)
async def quick(request):
    await asyncio.sleep(60)

@no_deadline
def writes(request):
    with transaction.atomic():
        run("default", "INSERT INTO marks VALUES (1)")
        if "until" in request.GET:
            until_told(request)
        transaction.set_rollback(True)
    return HttpResponse("done")

@no_deadline
async def slow(request):
    await asyncio.sleep(2)
    return HttpResponse(str(await sync_to_async(remaining)()))

@deadline(30)
class Long(View):
    def get(self, request):
        time.sleep(2)
        return HttpResponse("long")

@method_decorator(deadline(30), name="dispatch")
class Later(View):
    async def get(self, request):
        await asyncio.sleep(2)
        return HttpResponse("later")

def seen(request):
    names = ",".join(ended)
    ended.clear()
    return HttpResponse(names)

# What a test asks beside what it tests: a busy machine may take its time.
make, late, marks, session, seen = map(no_deadline, (make, late, marks, session, seen))

views = (make, query, inside, commits, late, marks, holds, sleeps, swallows, body, endless, waits, asks, elsewhere, streams)
views += (session, thread, spins, left, longer, inner, free, extended, exports, lingers, stuck, quick, slow, writes, seen)
urlpatterns += [path(f"{view.__name__}/", view, name=f"drill-{view.__name__}") for view in views]
urlpatterns += [path("long/", Long.as_view()), path("later/", Later.as_view())]
"""


class Tree(Server):
    """A server with one worker, and its database."""

    database: DatabaseServer | None = None

    def statements(self) -> list[str]:
        """What sleeps in the database server now."""
        if self.database is None:
            return []
        return [found[2] for found in self.database.activity() if "sleep" in found[2].lower()]


@pytest.fixture(scope="module", params=list(LIBRARIES))
def tree(request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """For each library a tree that all its tests share."""
    kind, first = LIBRARIES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    project = copy_template(template, folder / "shop")
    project.write(SETTINGS, f"{first}\n{project.path(SETTINGS).read_text()}")
    project.append(SETTINGS, f"LEASED = {bool(kind)}{ALIASES}")
    project.append(URLS, VIEWS)
    tree = Tree(project, folder)
    environ, name = {}, f"deadlines_{request.param}"
    if kind:
        tree.database = request.getfixturevalue(kind)
        assert tree.database is not None
        tree.database.create_database(name)
        environ["DATABASE_URL"] = tree.database.url(name)
    options: dict[str, Any] = {"access_log": "-", "access_log_format": "json", "check_migrations": "off"}
    tree.start(workers=1, timeout=60, probe="off", request_timeout=LIMIT, environ=environ, **options)
    assert tree.get("/make/").status == 200
    yield tree
    tree.interrupt()
    tree.wait()
    tree.close()
    if tree.database is not None:
        tree.database.drop_database(name)


def timed_out(tree: Tree, path: str, **kwargs: Any) -> Event:
    """Request a path that takes too long: its event, when the client has got 504, in a time that is no other limit's."""
    mark = tree.log.mark()
    began = time.monotonic()
    answer = tree.get(path, **kwargs)
    lasted = time.monotonic() - began
    assert answer.status == 504, answer
    assert LIMIT <= lasted < 10, "as the deadline wants it"
    event: Event = tree.wait_for("request_timeout", since=mark)
    return event


@pytest.mark.parametrize("alias", ["default", "kept"])
@pytest.mark.parametrize("view", ["query", "inside", "asks"])
def test_a_statement_over_its_time_ends_in_the_server(tree: Tree, view: str, alias: str) -> None:
    """The client gets 504, the server stops, nothing is written, and the only connection is as new."""
    event = timed_out(tree, f"/{view}/?alias={alias}")
    assert (event["phase"], event["alias"], event["view"]) == ("in SQL", alias, f"drill-{view}")
    assert event["sql"].startswith(("SELECT pg_sleep(60)", "SELECT SLEEP(60)"))
    assert (event["path"], event["limit"]) == (f"/{view}/?alias={alias}", LIMIT)
    assert f", in {'run' if view == 'asks' else view}\n" in event["stack"]
    eventually(lambda: not tree.statements(), "the server has stopped it")
    assert tree.get(f"/marks/?alias={alias}").body == b"0 False"
    pools = [pool for pool in ask(tree, "pool")["pools"] if pool["alias"] == alias]
    assert all((pool["size"] <= 1, pool["leased"]) == (True, 0) for pool in pools), pools
    eventually(lambda: view in tree.get("/seen/").body.decode() or view == "inside", "finally has run")


@pytest.mark.parametrize("tree", [name for name, (kind, _) in LIBRARIES.items() if kind], indirect=True)
@pytest.mark.parametrize("alias", ["default", "kept"])
@pytest.mark.parametrize("view", ["query", "inside", "asks"])
def test_the_connection_of_a_statement_over_its_time_is_used_again(tree: Tree, view: str, alias: str) -> None:
    """A server on a busy machine may take longer to end it than is waited for; not each time."""

    def session() -> bytes:
        return tree.get(f"/session/?alias={alias}").body

    for _ in range(ATTEMPTS):
        before = session()
        timed_out(tree, f"/{view}/?alias={alias}")
        assert tree.get(f"/marks/?alias={alias}").body == b"0 False"
        if session() == before:
            return
    pytest.fail(f"another connection each time of {ATTEMPTS}")


def test_a_statement_in_another_thread_of_an_async_view_ends_too(tree: Tree) -> None:
    timed_out(tree, "/elsewhere/")
    eventually(lambda: not tree.statements(), "the server has stopped it")
    assert tree.get("/marks/").body == b"0 False"


@pytest.mark.parametrize("tree", ["psycopg", "psycopg2"], indirect=True)
def test_a_commit_over_its_time_is_not_waited_for(tree: Tree) -> None:
    """A deferred trigger makes it long. The connection goes, since what the server made of it is not known."""
    assert tree.get("/late/").status == 200
    event = timed_out(tree, "/commits/")
    assert (event["phase"], event["sql"]) == ("in SQL", "COMMIT")
    eventually(lambda: not tree.statements(), "the server has stopped it")
    assert tree.get("/marks/").body == b"0 False"


@pytest.mark.parametrize("alias", ["default", "kept"])
def test_an_open_transaction_is_rolled_back_at_the_deadline(tree: Tree, alias: str) -> None:
    event = timed_out(tree, f"/inside/?alias={alias}&sleep=")
    assert event["phase"] == "running"
    assert tree.get(f"/marks/?alias={alias}").body == b"0 False"


@contextmanager
def in_transaction(tree: Tree, path: str) -> Iterator[None]:
    """A request that is in a transaction until the test goes on."""
    until = tree.scratch / f"until-{uuid4().hex}"
    joint = "&" if "?" in path else "?"
    holder = tree.in_background(f"{path}{joint}until={until}")
    try:
        eventually(Path(f"{until}.begun").exists, "it is in its transaction")
        yield
    finally:
        until.touch()
    assert holder.answer().status == 200


@pytest.mark.parametrize("alias", ["default", "kept"])
def test_a_request_that_waits_for_a_connection_times_out(tree: Tree, alias: str) -> None:
    """And its place in the queue is the next one's."""
    with in_transaction(tree, f"/holds/?alias={alias}"):
        event = timed_out(tree, f"/query/?alias={alias}")
    assert (event["phase"], event["alias"]) == ("waiting for a connection", alias)
    assert tree.get(f"/marks/?alias={alias}").status == 200


@pytest.mark.parametrize("alias", ["default", "kept"])
@pytest.mark.parametrize("view", ["query", "inside", "asks"])
def test_a_kill_ends_a_statement_with_every_library(tree: Tree, view: str, alias: str) -> None:
    """As a deadline does, but the client gets 503."""
    path = f"/{view}/?alias={alias}&long="
    killed = tree.in_background(path, headers={"X-Request-ID": "to-be-ended"})
    eventually(
        lambda: [
            item for item in ask(tree, "requests")["requests"] if item["path"] == path and item["phase"] == "in SQL"
        ],
        "it runs",
    )
    assert ask(tree, "kill", request="to-be-ended")["killed"]
    assert killed.answer().status == 503
    eventually(lambda: not tree.statements(), "the server has stopped it")
    assert tree.get(f"/marks/?alias={alias}").body == b"0 False"


@pytest.fixture(scope="module")
def plain(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree for what has nothing to do with a database."""
    folder = tmp_path_factory.mktemp("plain")
    project = copy_template(template, folder / "shop")
    project.append(SETTINGS, f"LEASED = False{ALIASES}")
    project.append(URLS, VIEWS)
    tree = Tree(project, folder)
    tree.start(workers=1, timeout=60, probe="off", request_timeout=LIMIT, access_log="-", access_log_format="json")
    assert tree.get("/make/").status == 200
    yield tree
    tree.interrupt()
    tree.wait()
    tree.close()


def read_all(client: socket.socket) -> None:
    """Read to the end."""
    while client.recv(1 << 20):
        pass


def lines(tree: Server, path: str) -> list[dict[str, Any]]:
    """The lines of the access log for a path."""
    found = [json.loads(line) for line in tree.output.read_text().splitlines()]
    return [line for line in found if line["path"] == path]


def fields_of(event: str) -> set[str]:
    """What the reference says that an event has."""
    (row,) = [line for line in REFERENCE.read_text().splitlines() if line.startswith(f"| `{event}`")]
    return set(re.findall(r"\w+", re.sub(r"\(.*?\)", "", row.split("|")[-2])))


def test_a_sleeping_view_times_out_and_tidies_up(plain: Tree) -> None:
    event = timed_out(plain, "/sleeps/", headers={"X-Request-ID": "it"})
    assert (event["phase"], event["method"], event["request_id"]) == ("running", "GET", "it")
    assert event.keys() - COMMON == fields_of("request_timeout")
    assert b"sleeps" in plain.get("/seen/").body
    [line] = lines(plain, "/sleeps/")
    assert (line["status"], line["phase"], line["reason"]) == (504, "running", "not answered within 1 s")


@pytest.mark.parametrize("view", ["waits", "quick", "inner"])
def test_views_with_a_limit_of_their_own_and_async_ones_time_out(plain: Tree, view: str) -> None:
    event = timed_out(plain, f"/{view}/")
    assert event["limit"] == LIMIT
    assert f", in {view}\n" in event["stack"]
    if view == "waits":
        eventually(lambda: b"waits" in plain.get("/seen/").body, "finally has run")


@pytest.mark.parametrize("path", ["/longer/", "/free/", "/extended/", "/exports/", "/slow/", "/long/", "/later/"])
def test_more_time_is_had_by_asking_for_it(plain: Tree, path: str) -> None:
    answer = plain.get(path)
    assert answer.status == 200
    if path in {"/longer/", "/extended/"}:
        left = float(answer.body)
        assert 0 < left < (28 if path == "/longer/" else 10)
    if path in {"/free/", "/slow/"}:
        assert answer.body == b"None"
    assert not plain.events("request_timeout", path=path)


def test_a_view_learns_what_time_is_left(plain: Tree) -> None:
    assert 0 < float(plain.get("/left/").body) <= LIMIT


@pytest.mark.parametrize("length", [100, 999_999])
def test_a_body_that_does_not_come_times_out(plain: Tree, length: int) -> None:
    """A short one is received before the view begins, a long one while it reads."""
    mark = plain.log.mark()
    with socket.create_connection((plain.address.host, plain.address.port)) as client:
        client.settimeout(20)
        client.sendall(b"POST /body/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nhalf" % length)
        assert client.recv(4096).startswith(b"HTTP/1.1 504 ")
    event = plain.wait_for("request_timeout", since=mark)
    assert (event["phase"], event["view"]) == ("reading body", "drill-body")


def test_a_client_that_never_reads_is_cut(plain: Tree) -> None:
    mark = plain.log.mark()
    with socket.create_connection((plain.address.host, plain.address.port)) as client:
        client.sendall(b"GET /endless/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert plain.wait_for("request_timeout", since=mark)["phase"] == "writing"
        eventually(lambda: lines(plain, "/endless/"), "it is over")
        client.settimeout(20)
        with pytest.raises(ConnectionResetError):
            read_all(client)
    assert b"endless" in plain.get("/seen/").body
    [line] = lines(plain, "/endless/")
    assert (line["status"], line["phase"]) == (200, "writing")


@pytest.mark.parametrize("size", [1, 300_000])
def test_an_answer_that_is_out_is_not_cut_while_its_view_tidies_up(plain: Tree, size: int) -> None:
    """The kernel has all of it; a reset would drop what a slow client has not taken yet."""
    mark = plain.log.mark()
    path = f"/lingers/?size={size}"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((plain.address.host, plain.address.port))
        client.settimeout(20)
        client.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        assert plain.wait_for("request_timeout", since=mark)["phase"] == "running"
        eventually(lambda: b"lingers" in plain.get("/seen/").body, "finally has run")
        received = b""
        while data := client.recv(1 << 16):
            received += data
    assert len(received.partition(b"\r\n\r\n")[2]) == size
    [line] = [line for line in lines(plain, "/lingers/") if line["bytes"] == size]
    assert (line["status"], line["phase"], line["reason"]) == (200, "running", "")


def test_a_request_whose_connection_does_not_close_is_answered_all_the_same(plain: Tree) -> None:
    """As where the database's machine has gone: the request is told again meanwhile, and has its line in the log."""
    assert plain.get("/stuck/").status == 504
    eventually(lambda: lines(plain, "/stuck/"), "it is over")
    [line] = lines(plain, "/stuck/")
    assert (line["status"], line["phase"], line["reason"]) == (504, "running", "not answered within 1 s")


def test_a_stream_of_an_async_view_is_cut(plain: Tree) -> None:
    with socket.create_connection((plain.address.host, plain.address.port)) as client:
        client.settimeout(20)
        client.sendall(b"GET /streams/ HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            read_all(client)
    eventually(lambda: b"streams" in plain.get("/seen/").body, "finally has run")


def test_a_view_that_waits_for_a_native_thread_times_out(plain: Tree) -> None:
    """The thread cannot be ended: it goes on, and its worker as well."""
    timed_out(plain, "/thread/")
    assert plain.get("/seen/").status == 200


@pytest.mark.parametrize("error", ["RequestTimeout", "RequestKilled"])
def test_a_view_that_swallows_it_is_told_again_and_then_cut(plain: Tree, error: str) -> None:
    """Once is enough for one that answers then; a third time its client is gone."""
    mark = plain.log.mark()
    request = plain.in_background(f"/swallows/?times=3&{error}", headers={"X-Request-ID": error})
    if error == "RequestKilled":
        ask(plain, "kill", request=one(plain, error)["id"])
    status = 504 if error == "RequestTimeout" else 503
    assert request.answer().status == status
    assert "in swallows" in plain.wait_for("request_cut", since=mark)["stack"]
    eventually(lambda: plain.get("/seen/").body.decode().count(error) == 3, "it was told three times")
    eventually(lambda: [line for line in lines(plain, "/swallows/") if error in line["query"]], "it is over")
    [line] = [line for line in lines(plain, "/swallows/") if error in line["query"]]
    assert (line["status"], line["phase"]) == (status, "running")


def one(server: Server, request_id: str) -> dict[str, Any]:
    """The request in flight with this X-Request-ID."""

    def look() -> dict[str, Any] | None:
        return next((item for item in ask(server, "requests")["requests"] if item["request_id"] == request_id), None)

    found: dict[str, Any] = eventually(look, "it is in flight")
    return found


def test_a_kept_connection_is_served_on_beside_a_timeout(plain: Tree) -> None:
    """Requests after each other on one connection count each for itself."""
    client = Raw(plain.address)
    left = []
    for _ in range(3):
        client.get("/left/")
        left.append(float(client.answer().body))
        time.sleep(LIMIT / 2)
    assert min(left) > LIMIT / 2
    client.close()


def test_a_transaction_of_sqlite_is_rolled_back_at_the_deadline(plain: Tree) -> None:
    """And the next one writes: one writer at a time is all that a file has."""
    timed_out(plain, "/inside/?sleep=")
    assert plain.get("/marks/").body == b"0 False"
    assert plain.get("/writes/").status == 200


def test_a_wait_for_sqlites_writer_times_out(plain: Tree) -> None:
    with in_transaction(plain, "/writes/"):
        timed_out(plain, "/inside/?sleep=")
    assert plain.get("/marks/").body == b"0 False"


def test_the_wait_for_a_turn_does_not_count_where_the_body_came_later(template: Path, tmp_path: Path) -> None:
    """A short body is received before the request is one of those that run at once; it waits then, as all others do."""
    project = copy_template(template, tmp_path / "shop")
    project.append(SETTINGS, f"LEASED = False{ALIASES}")
    project.append(URLS, VIEWS)
    tree = Tree(project, tmp_path)
    tree.start(workers=1, timeout=60, probe="off", request_timeout=LIMIT, worker_connections=1)
    with socket.create_connection((tree.address.host, tree.address.port)) as client:
        client.settimeout(20)
        client.sendall(b"POST /body/ HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n")
        eventually(lambda: len(ask(tree, "requests")["requests"]) == 1, "its head is there")
        holder = tree.in_background("/exports/")
        eventually(lambda: len(ask(tree, "requests")["requests"]) == 2, "the other runs")
        client.sendall(b"the body")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert holder.answer().status == 200
    tree.interrupt()
    tree.wait()
    tree.close()
