"""What a query costs on each database driver, green beside blocking: `python -m tests.benchmarks.drivers`.

Each figure comes from a process of its own; the drivers take turns, round after round, so that a noisy minute hits all
of them. What counts is the ratio of two drivers in the same round, and of those the median. CPU is that of the client
process, its threads included.

    --json FILE    the figures as JSON, beside the table
    --rounds N     default 9
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GREEN = {
    "psycopg3": ("postgres", "djworker.db.drivers.psycopg3", "Psycopg3Driver"),
    "psycopg2": ("postgres", "djworker.db.drivers.psycopg2", "Psycopg2Driver"),
    "mysqlclient": ("mysql", "djworker.db.drivers.mysqlclient", "MySQLClientDriver"),
    "pymysql": ("mysql", "djworker.db.drivers.pymysql", "PyMySQLDriver"),
}
BLOCKING = {"psycopg3": "psycopg", "psycopg2": "psycopg2", "mysqlclient": "MySQLdb", "pymysql": "pymysql"}
CONNECTIONS = 10  # green: that many greenlets, each on a connection of its own
QUERIES = 3000
SLEEPERS, SLEEP = 20, 0.2
# The promises, as (name, numerator, denominator, at most).
PROMISES = [
    ("psycopg3 green / blocking", "psycopg3 green", "psycopg3 blocking", 1.3),
    ("mysqlclient green / blocking", "mysqlclient green", "mysqlclient blocking", 1.5),
    ("mysqlclient green / pymysql green", "mysqlclient green", "pymysql green", 0.7),
]


# ------------------------------------------------------------------------------------------------- in the measured process


def cpu_of(work: Callable[[], object]) -> float:
    """Seconds of CPU that the work takes in this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def ask(conn: Any, sql: str, times: int) -> None:
    """The same query over and over."""
    for number in range(times):
        cursor = conn.cursor()
        cursor.execute(sql, (number,))
        cursor.fetchall()
        cursor.close()


def blocking(name: str, params: dict[str, Any]) -> dict[str, float]:
    """The library as it is, one connection."""
    if name == "pymysql":
        params["ssl_disabled"] = True
    conn = importlib.import_module(BLOCKING[name]).connect(**params)
    conn.autocommit = True if not callable(conn.autocommit) else conn.autocommit(True)
    ask(conn, "SELECT %s", 200)
    return {"small": cpu_of(lambda: ask(conn, "SELECT %s", QUERIES)) / QUERIES * 1e6}


def green(name: str, params: dict[str, Any]) -> dict[str, float]:
    """Our driver, several greenlets."""
    import gevent

    _, module, cls = GREEN[name]
    driver = getattr(importlib.import_module(module), cls)()

    def connect() -> Any:
        conn = driver.connect(dict(params))
        driver.set_autocommit(conn, True)
        return conn

    connections = [job.get() for job in [gevent.spawn(connect) for _ in range(SLEEPERS)]]
    figures = {"small": cpu_small(connections[:CONNECTIONS]), **sleepers(connections, name)}
    figures["large_gap_ms"] = gap_of(lambda: large(connections[0], name))[1] * 1e3
    figures["connect_cpu_ms"] = cpu_of(lambda: [driver.close(connect()) for _ in range(20)]) / 20 * 1e3
    figures["reset_wall_ms"] = wall_of(lambda: [driver.reset(connections[0]) for _ in range(50)]) / 50 * 1e3
    if name == "mysqlclient":
        figures["change_user_wall_ms"] = wall_of(lambda: change_user(connections[1], params, 50)) / 50 * 1e3
    return figures


def wall_of(work: Callable[[], object]) -> float:
    """Seconds by the clock."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def change_user(conn: Any, params: dict[str, Any], times: int) -> None:
    """What reset would be without COM_RESET_CONNECTION."""
    for _ in range(times):
        conn.change_user(params["user"], params["password"], params["database"])


def cpu_small(connections: list[Any]) -> float:
    """Microseconds of CPU for a small query."""
    import gevent

    share = QUERIES // len(connections)
    for conn in connections:
        ask(conn, "SELECT %s", 20)

    def work() -> None:
        gevent.joinall([gevent.spawn(ask, conn, "SELECT %s", share) for conn in connections], raise_error=True)

    return cpu_of(work) / (share * len(connections)) * 1e6


def gap_of(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds the work took, and the longest time that a 5 ms ticker beside it was late."""
    import gevent

    late = 0.0

    def tick() -> None:
        nonlocal late
        last = time.perf_counter()
        while True:
            gevent.sleep(0.005)
            now = time.perf_counter()
            late, last = max(late, now - last - 0.005), now

    ticker = gevent.spawn(tick)
    gevent.sleep(0.02)
    late = 0.0
    took = wall_of(work)
    gevent.sleep(0.01)
    ticker.kill()
    return took, late


def sleepers(connections: list[Any], name: str) -> dict[str, float]:
    """Queries that sleep in the server, side by side."""
    import gevent

    function = "pg_sleep" if GREEN[name][0] == "postgres" else "SLEEP"

    def work() -> None:
        sql = f"SELECT {function}({SLEEP}), %s"
        gevent.joinall([gevent.spawn(ask, conn, sql, 1) for conn in connections], raise_error=True)

    took, late = gap_of(work)
    return {"sleepers_s": took, "sleepers_gap_ms": late * 1e3}


def large(conn: Any, name: str) -> None:
    """100 000 rows, fetched in portions as Django does it."""
    series = "generate_series(1, 100000) AS n(a)" if GREEN[name][0] == "postgres" else "seq_1_to_100000"
    cursor = conn.cursor()
    cursor.execute(
        f"SELECT 'some text that takes room', n.* FROM {series}".replace("n.*", "n.a" if "AS n" in series else "seq")
    )
    while cursor.fetchmany(100):
        pass
    cursor.close()


def sqlite(folder: str) -> dict[str, float]:
    """A small query in the hub's thread, and in another."""
    from djworker.db.drivers import offload
    from djworker.db.drivers.sqlite import SQLiteDriver

    conn = SQLiteDriver().connect({"database": f"{folder}/bench.sqlite3", "check_same_thread": False})
    conn.execute("CREATE TABLE IF NOT EXISTS t (a integer PRIMARY KEY, b text)")
    conn.executemany("INSERT OR REPLACE INTO t VALUES (?, 'text')", [(number,) for number in range(1000)])

    def one(number: int) -> None:
        conn.execute("SELECT * FROM t WHERE a = ?", (number % 1000,)).fetchall()

    def inline() -> None:
        for number in range(QUERIES):
            one(number)

    def threaded() -> None:
        for number in range(QUERIES):
            offload.apply(one, number)

    return {"inline_us": cpu_of(inline) / QUERIES * 1e6, "thread_us": cpu_of(threaded) / QUERIES * 1e6}


def child(what: str, name: str, params: dict[str, Any]) -> None:
    """Measure one driver and print the figures."""
    measured = {
        "green": lambda: green(name, params),
        "blocking": lambda: blocking(name, params),
        "sqlite": lambda: sqlite(params["folder"]),
    }
    print(json.dumps(measured[what]()), flush=True)


# ------------------------------------------------------------------------------------------------------------ around it


def measure(what: str, name: str, params: dict[str, Any]) -> dict[str, float]:
    """Run one child."""
    command = [sys.executable, "-m", "tests.benchmarks.drivers", "--child", what, name, json.dumps(params)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{what} {name}: {done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def run_rounds(rounds: int) -> dict[str, list[dict[str, float]]]:
    """Every driver once a round."""
    import tempfile

    from tests.db.servers import MariaDBServer, PostgresServer

    found: dict[str, list[dict[str, float]]] = {}
    with PostgresServer() as postgres, MariaDBServer() as mariadb, tempfile.TemporaryDirectory() as folder:
        servers = {"postgres": postgres, "mysql": mariadb}
        for server in servers.values():
            server.create_database("bench")
        for number in range(rounds):
            for name, (dialect, _, _) in GREEN.items():
                for what in ("blocking", "green"):
                    params = servers[dialect].params("bench")
                    found.setdefault(f"{name} {what}", []).append(measure(what, name, params))
            found.setdefault("sqlite3", []).append(measure("sqlite", "sqlite3", {"folder": folder}))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return found


def median(figures: list[dict[str, float]], name: str) -> float:
    """Of one figure over the rounds."""
    return statistics.median(figure[name] for figure in figures)


def ratios(found: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """The promised ratios: the median of the rounds, and whether it holds."""
    kept = []
    for name, above, below, limit in PROMISES:
        rounds = [a["small"] / b["small"] for a, b in zip(found[above], found[below], strict=True)]
        ratio = statistics.median(rounds)
        kept.append({"name": name, "ratio": ratio, "at_most": limit, "kept": ratio <= limit})
    return kept


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    found = run_rounds(options.rounds)
    for name, figures in found.items():
        row = "  ".join(f"{figure} {median(figures, figure):.1f}" for figure in figures[0])
        print(f"{name:22}{row}")
    promises = ratios(found)
    for promise in promises:
        print(f"{promise['name']:36}{promise['ratio']:.2f}  (at most {promise['at_most']})")
    if options.json:
        options.json.write_text(json.dumps({"rounds": found, "promises": promises}, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        if sys.argv[2] != "blocking":
            from gevent import monkey

            monkey.patch_all()
        child(sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
    else:
        main()
