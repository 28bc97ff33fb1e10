"""What is measured: scenarios, their rows, and the targets that the project has set itself. Data only; add a row here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.benchmarks.summary import Target, best_ratio, fairness, further_worker, ratio, worker_share

RAW = "tests.benchmarks.rawapp:application"
BODIES = "tests.benchmarks.bodies:application"
DJANGO = "testproject.wsgi:application"
BARE = "bare handler"  # the application called in a loop, no server and no socket
POOL = 10  # connections that a row may hold


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a scenario: a server (or BARE), how it is set up, and what its line is called."""

    name: str
    server: str
    env: Mapping[str, str] = field(default_factory=dict)
    workers: int = 1
    threads: int = 1
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One page under one load, answered by each row in turn."""

    name: str
    title: str
    app: str
    path: str
    rows: tuple[Row, ...]
    connections: int = 32
    uploads: int = 0  # of each client in a measurement, in the place of wrk's load
    script: str = ""  # what wrk sends, where that is not the same again and again
    expect: str = ""  # what a good answer contains
    database: str = ""  # "postgresql" or "mariadb": a server of our own, migrated and seeded
    slow_service: bool = False
    compare: tuple[tuple[str, str], ...] = ()  # (metric, reference row): a column of ratios
    targets: tuple[Target, ...] = ()


def _row(server: str, kind: str = "", *, driver: str = "", name: str = "", **more: object) -> Row:
    env = {"BENCH_CONNECTIONS": kind, "BENCH_POOL_SIZE": str(POOL)} if kind else {}
    if driver:
        env["BENCH_MYSQL_DRIVER"] = driver
    return Row(name or server, server, env, **more)  # type: ignore[arg-type]


# One thread serves granian best where nothing waits; gthread gets what its documentation calls usual for one core.
PLAIN = (
    _row("djworker"),
    _row("gunicorn gevent"),
    _row("gunicorn gthread", threads=4),
    _row("granian"),
    _row("pywsgi"),
)
FOUR = 4


def _four(server: str) -> tuple[Row, Row]:
    return Row(f"{server}, 1 worker", server), Row(f"{server}, {FOUR} workers", server, workers=FOUR)


RAW_HELLO = Scenario(
    name="raw",
    title="Raw WSGI: 13 bytes from a bare callable",
    app=RAW,
    path="/",
    expect="Hello, World!",
    rows=PLAIN,
    connections=100,
    compare=(("cpu", "granian"), ("cpu", "gunicorn gevent"), ("rate", "granian")),
    targets=(
        Target("CPU per request, djworker ÷ granian", ratio("cpu", "djworker", "granian"), at_most=1.2),
        Target(
            "CPU per request, djworker ÷ gunicorn gevent", ratio("cpu", "djworker", "gunicorn gevent"), at_most=1 / 6
        ),
    ),
)

#: Clients that come at once and keep their connections.
CROWD_SIZE = 1000
CROWD_ROWS = (
    Row("djworker, 1 worker", "djworker"),
    Row("djworker, 2 workers", "djworker", workers=2),
    Row("granian, 1 worker", "granian"),
    Row("granian, 2 workers", "granian", workers=2),
)
CROWD = Scenario(
    name="crowd",
    title=f"{CROWD_SIZE} clients at once: the last in a hundred waits as long as is fair",
    app=DJANGO,
    path="/raw",
    rows=CROWD_ROWS,
    connections=CROWD_SIZE,
    compare=(("rate", "granian, 1 worker"),),
    targets=tuple(
        Target(
            f"{'' if row.server == 'djworker' else 'for comparison: '}p99 ÷ (clients ÷ rate), {row.name}",
            fairness(row.name, CROWD_SIZE),
            at_most=1.5 if row.server == "djworker" else None,
        )
        for row in CROWD_ROWS
    ),
)

# djworker caches heads that came before, so that one head again and again flatters it.
RAW_HEADS = replace(
    RAW_HELLO, name="raw-heads", title="Raw WSGI: the same, from browsers whose heads all differ", script="heads.lua"
)

HELLO = Scenario(
    name="hello",
    title="Django page with middleware and template, no database",
    app=DJANGO,
    path="/hello",
    expect="Hello, World!",
    # Beside each other, because they are compared by their rates.
    rows=(PLAIN[0], _row(BARE), *PLAIN[1:]),
    compare=(("cpu", "granian"), ("cpu", "gunicorn gevent"), ("rate", BARE)),
    targets=(
        Target("CPU per request, djworker ÷ granian", ratio("cpu", "djworker", "granian"), at_most=1.1),
        Target(
            "CPU per request, djworker ÷ gunicorn gevent", ratio("cpu", "djworker", "gunicorn gevent"), at_most=0.65
        ),
        Target("requests per second, djworker ÷ bare handler", ratio("rate", "djworker", BARE), at_least=0.85),
        Target(
            "for comparison: CPU per request, bare handler ÷ djworker, the same without what others took of the machine",
            ratio("cpu", BARE, "djworker"),
        ),
        Target(
            "for comparison: CPU per request, bare handler ÷ gunicorn gevent, which no server can beat",
            ratio("cpu", BARE, "gunicorn gevent"),
        ),
    ),
)

#: Metrics with their status process, the thread that finds stalls, and ids of requests that answers tell: all off, and all on.
WATCHED_OFF = ("--stall-threshold=0",)
WATCHED_ON = ("--stall-threshold=0.5", "--request-id=answer", "--status-bind=127.0.0.1:0")
OBSERVE = Scenario(
    name="observe",
    title="What it costs to be watched: metrics, stalls and ids of requests",
    app=DJANGO,
    path="/hello",
    expect="Hello, World!",
    rows=(Row("all off", "djworker", options=WATCHED_OFF), Row("all on", "djworker", options=WATCHED_ON)),
    compare=(("cpu", "all off"), ("rate", "all off")),
    targets=(Target("CPU per request, all on ÷ all off", ratio("cpu", "all on", "all off"), at_most=1.03),),
)

MEMORY = Scenario(
    name="memory",
    title=f"Memory (PSS) after load: {FOUR} workers and one",
    app=DJANGO,
    path="/hello",
    expect="Hello, World!",
    rows=(*_four("djworker"), *_four("gunicorn gevent"), Row("pywsgi, alone", "pywsgi")),
    connections=100,
    compare=(("pss", "pywsgi, alone"),),
    targets=(
        Target(
            "memory of each further worker ÷ one process that loaded the application by itself",
            further_worker("djworker, 1 worker", f"djworker, {FOUR} workers", alone="pywsgi, alone"),
            at_most=0.4,
        ),
        Target(
            f"mean PSS of {FOUR} workers ÷ one process that loaded the application by itself",
            worker_share(f"djworker, {FOUR} workers", alone="pywsgi, alone"),
            at_most=0.4,
        ),
        Target(
            "for comparison: the same of gunicorn, whose workers load the application themselves",
            further_worker("gunicorn gevent, 1 worker", f"gunicorn gevent, {FOUR} workers", alone="pywsgi, alone"),
        ),
    ),
)

# More threads than connections, so that a thread which writes its answer does not keep a connection idle.
POSTGRESQL = (
    _row("djworker", "djworker"),
    _row("gunicorn gthread", "django", name="gunicorn gthread + Django's pool", threads=16),
    _row("gunicorn gevent", "django", name="gunicorn gevent + Django's pool"),
    _row("gunicorn gevent", "geventpool", name="gunicorn gevent + django-db-geventpool"),
    _row("granian", "django", name="granian + Django's pool", threads=16),
)
# Django has no pool for MySQL. Where threads serve, their number bounds the persistent connections. Under gevent nothing does
# (gunicorn's --worker-connections counts idle sockets too, so a bound of 10 would let 90 clients starve): these rows open one
# connection for each request that runs, so they are shown, but are not what a bounded pool is judged by.
MARIADB = (
    _row("djworker", "djworker"),
    _row("gunicorn gthread", "persistent", name="gunicorn gthread, persistent connections", threads=POOL),
    _row("granian", "persistent", name="granian, persistent connections", threads=POOL),
    _row("gunicorn gevent", "fresh", name="gunicorn gevent, mysqlclient, no bound"),
    _row("gunicorn gevent", "fresh", name="gunicorn gevent, PyMySQL, no bound", driver="pymysql"),
)
PERSISTENT = _row(BARE, "persistent")


def _others(rows: tuple[Row, ...], *, bounded: bool) -> tuple[str, ...]:
    others = (row.name for row in rows if row.server not in {"djworker", BARE})
    return tuple(name for name in others if bounded != name.endswith("no bound"))


def _best(rows: tuple[Row, ...], at_least: float) -> tuple[Target, ...]:
    value = best_ratio("rate", "djworker", _others(rows, bounded=True))
    target = Target("requests per second, djworker ÷ the best of the others", value, at_least=at_least)
    unbounded = _others(rows, bounded=False)
    if not unbounded:
        return (target,)
    text = "for comparison: the same ÷ the best of those that keep no bound"
    return target, Target(text, best_ratio("rate", "djworker", unbounded))


def _db(database: str, rows: tuple[Row, ...]) -> Scenario:
    bare = Target("requests per second, djworker ÷ bare handler", ratio("rate", "djworker", BARE), at_least=0.8)
    return Scenario(
        name=f"db-{database}",
        title=f"One ORM query on {database}, at most {POOL} connections",
        app=DJANGO,
        path="/db",
        expect='"stock"',
        rows=(rows[0], PERSISTENT, *rows[1:]),
        connections=100,
        database=database,
        compare=(("rate", BARE), ("cpu", BARE)),
        targets=(*_best(rows, 1.3), bare),
    )


def _wait(database: str, rows: tuple[Row, ...]) -> Scenario:
    return Scenario(
        name=f"wait-{database}",
        title=f"Query, 100 ms of another service, query on {database}, at most {POOL} connections",
        app=DJANGO,
        path="/wait?ms=100",
        expect='"delivery"',
        rows=rows,
        connections=100,
        database=database,
        slow_service=True,
        compare=(("rate", _others(rows, bounded=True)[0]),),
        targets=_best(rows, 5.0),
    )


LEASES = tuple(
    Row(
        f"{lease} lease",
        "djworker",
        {
            "BENCH_CONNECTIONS": "djworker",
            "BENCH_POOL_SIZE": str(POOL),
            "BENCH_LEASE": lease,
            "SHOP_DEBUG_VIEWS": "1",
        },
    )
    for lease in ("transaction", "request")
)


def _leases(database: str, metric: str, target: Target, **more: Any) -> Scenario:
    title = f"{more.pop('title')} on {database}, at most {POOL} connections"
    compare = ((metric, "request lease"),)
    return Scenario(
        app=DJANGO,
        expect='"stock"',
        rows=LEASES,
        database=database,
        title=title,
        compare=compare,
        targets=(target,),
        **more,
    )


def _lease(database: str) -> Scenario:
    """What it is good for to give a connection back before a wait."""
    value = ratio("rate", "transaction lease", "request lease")
    return _leases(
        database,
        "rate",
        Target("requests per second, transaction lease ÷ request lease", value, at_least=6.0),
        name=f"lease-{database}",
        title="Query, 100 ms of waiting, query",
        path="/debug/queries?n=2&ms=100",
        connections=200,
    )


def _overhead(database: str) -> Scenario:
    """What it costs where nobody waits for a connection."""
    value = ratio("cpu", "transaction lease", "request lease")
    return _leases(
        database,
        "cpu",
        Target("CPU per request, transaction lease ÷ request lease", value, at_most=1.08),
        name=f"overhead-{database}",
        title="Five queries, a connection for each client",
        path="/debug/queries?n=5&ms=0",
        connections=POOL,
    )


GUNICORNS = ("gunicorn gevent", "gunicorn gthread")
BODY_ROWS = tuple(row for row in PLAIN if row.name in ("djworker", *GUNICORNS))


def _bodies(name: str, title: str, path: str, **more: Any) -> Scenario:
    """Large bodies, of which CPU per request says most: the rate is that of a loopback."""
    targets = tuple(
        Target(f"CPU per request, djworker ÷ {other}", ratio("cpu", "djworker", other), at_most=1.1)
        for other in GUNICORNS
    )
    compare = tuple(("cpu", other) for other in GUNICORNS)
    return Scenario(
        name=name, title=title, app=BODIES, path=path, rows=BODY_ROWS, compare=compare, targets=targets, **more
    )


LARGE_ANSWERS = tuple(
    _bodies(f"large-answers-{mib}m", f"A HttpResponse of {mib} MiB", f"/?mib={mib}", connections=8)
    for mib in (1, 4, 16)
)
#: Two clients: with more of them the kernel's buffers fill each other's time.
UPLOADS = (
    _bodies("upload-100m", "100 MiB that a view reads", "/read", connections=2, uploads=4),
    _bodies("form-100m", "100 MiB in a form, kept in a file", "/form", connections=2, uploads=4),
)

SCENARIOS = (
    RAW_HELLO,
    RAW_HEADS,
    HELLO,
    *LARGE_ANSWERS,
    *UPLOADS,
    CROWD,
    OBSERVE,
    MEMORY,
    *(
        make(database, rows)
        for database, rows in (("postgresql", POSTGRESQL), ("mariadb", MARIADB))
        for make in (_db, _wait)
    ),
    *(make(database) for database in ("postgresql", "mariadb") for make in (_lease, _overhead)),
)
