"""Django's own test suite on our engines, under gevent, beside the stock engine: `make test-django`.

The suite comes with Django's source distribution, in the version that is installed. Every label runs twice: on the stock engine,
unpatched, and on ours in a gevent-patched interpreter. What fails only on ours must be in `django_expected.toml`, with a reason.

    python -m tests.db.django_suite --database postgresql --lease transaction backends transactions
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import django

from tests.db.servers import DatabaseServer, MariaDBServer, PostgresServer

LABELS = [
    "backends",
    "transactions",
    "transaction_hooks",
    "select_for_update",
    "queries",
    "raw_query",
    "delete",
    "get_or_create",
    "bulk_create",
    "expressions",
    "aggregation",
    "postgres_tests",
    "migrations",
    "test_utils",
    "servers",
]
DATABASES = ("postgresql", "mysql", "sqlite3")
LEASES = ("transaction", "request")
EXPECTED = Path(__file__).with_name("django_expected.toml")
CACHE = Path(__file__).parents[2] / "build" / "django-suite"
#: Seconds for one label; `queries` and `migrations` take about a minute each on two cores.
LABEL_LIMIT = 1200
#: `FAIL: test_name (package.module.Class.test_name)`, with a subtest's parameters behind it.
_FAILED = re.compile(r"^(?:FAIL|ERROR): .*?\((\w+(?:\.\w+)+)\)", re.MULTILINE)
_RAN = re.compile(r"^Ran (\d+) tests? in", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What one run of some labels gave."""

    ran: int
    failed: frozenset[str]
    output: str


@dataclass
class Report:
    """What is to be told at the end."""

    unexpected: list[str] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)
    ran: int = 0


def sources() -> Path:
    """The tests of the installed Django, unpacked under build/."""
    version = django.get_version()
    home = CACHE / f"django-{version}"
    if not (home / "tests" / "runtests.py").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        wanted = f"[Dd]jango-{version}.tar.gz"
        if not any(CACHE.glob(wanted)):
            what = ["--no-deps", "--no-binary", ":all:", f"Django=={version}"]
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(CACHE), *what], check=True
            )
        (archive,) = CACHE.glob(wanted)
        with tarfile.open(archive) as tar:
            tar.extractall(CACHE, filter="data")
    return home / "tests"


@contextmanager
def server_for(database: str) -> Iterator[DatabaseServer | None]:
    """A server of our own, or none for SQLite."""
    kind = {"postgresql": PostgresServer, "mysql": MariaDBServer}.get(database)
    if kind is None:
        yield None
        return
    with kind() as server:
        for name in ("django", "django_other"):
            server.create_database(name)
        yield server


def settings_text(engine: str, server: DatabaseServer | None, lease: str) -> str:
    """A settings module for runtests.py; `lease` is empty for the stock engine."""
    names = ("django", "django_other") if server else (":memory:", ":memory:")
    common = {"ENGINE": engine}
    if server is not None:
        common |= {"USER": server.user, "PASSWORD": server.password, "HOST": server.host, "PORT": str(server.port)}
        if "mysql" in engine:
            common["TEST"] = {"CHARSET": "utf8mb4"}  # type: ignore[assignment]
    databases = {alias: {**common, "NAME": name} for alias, name in zip(("default", "other"), names, strict=True)}
    lines = [
        f"DATABASES = {databases!r}",
        "SECRET_KEY = 'django_tests_secret_key'",
        "PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']",
        "DEFAULT_AUTO_FIELD = 'django.db.models.AutoField'",
        "USE_TZ = False",
    ]
    if lease:
        lines.append(f"DJWORKER = {{'POOL': {{'lease': {lease!r}, 'max_size': 10, 'timeout': 20}}}}")
    return "\n".join(lines) + "\n"


#: Ours runs as a worker does: patched before the first other import.
_PATCHED = """
from gevent import monkey
monkey.patch_all()
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_suite(tests: Path, labels: Sequence[str], settings: str, *, patched: bool) -> Outcome:
    """Run some labels with these settings."""
    module = "djworker_suite_settings"
    (tests / f"{module}.py").write_text(settings)
    script = [str(tests / "runtests.py"), *labels, f"--settings={module}", "--parallel=1", "--noinput", "--verbosity=1"]
    start = [sys.executable, "-c", _PATCHED] if patched else [sys.executable]
    root = Path(__file__).parents[2]
    environ = {
        "PYTHONPATH": f"{tests}:{root}",
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "LC_ALL": "C.UTF-8",
        "HOME": str(CACHE),
    }
    done = subprocess.run(
        [*start, *script], cwd=tests, env=environ, capture_output=True, text=True, check=False, timeout=LABEL_LIMIT
    )
    output = done.stdout + done.stderr
    ran = _RAN.search(output)
    if ran is None:
        raise SystemExit(f"the suite did not run:\n{output[-4000:]}")
    return Outcome(int(ran[1]), frozenset(_FAILED.findall(output)), output)


def explanation(test: str, database: str) -> str | None:
    """Why this test may fail on our engine, if it may."""
    rows = tomllib.loads(EXPECTED.read_text())["test"] if EXPECTED.exists() else []
    for row in rows:
        if fnmatchcase(test, row["name"]) and database in row["databases"]:
            reason: str = row["reason"]
            return reason
    return None


def compare(database: str, lease: str, labels: Sequence[str], report: Report, *, verbose: bool) -> None:
    """Run each label on both engines and note the differences."""
    tests = sources()
    with server_for(database) as server:
        for label in labels:
            stock = run_suite(
                tests, [label], settings_text(f"django.db.backends.{database}", server, ""), patched=False
            )
            engine = f"djworker.db.backends.{database}"
            ours = run_suite(tests, [label], settings_text(engine, server, lease), patched=True)
            report.ran += ours.ran
            print(
                f"{database}, {lease}, {label}: {ours.ran} tests, stock fails {len(stock.failed)}, ours {len(ours.failed)}"
            )
            if ours.ran != stock.ran:
                report.unexpected.append(f"{database} {lease} {label}: ran {ours.ran} tests, stock {stock.ran}")
            for test in sorted(ours.failed - stock.failed):
                reason = explanation(test, database)
                (report.explained if reason else report.unexpected).append(
                    f"{database} {lease} {test}: {reason or 'NEW'}"
                )
            if verbose and ours.failed - stock.failed:
                print(ours.output)


def main(arguments: Sequence[str]) -> int:
    """0 when nothing fails that need not."""
    parser = argparse.ArgumentParser(prog="python -m tests.db.django_suite", description=__doc__.partition("\n")[0])
    parser.add_argument("labels", nargs="*", default=LABELS)
    parser.add_argument("--database", choices=DATABASES, action="append")
    parser.add_argument("--lease", choices=LEASES, action="append")
    parser.add_argument("--verbose", action="store_true", help="show the whole output where something fails")
    options = parser.parse_args(arguments)
    report = Report()
    for database in options.database or DATABASES:
        for lease in options.lease or LEASES:
            compare(database, lease, options.labels or LABELS, report, verbose=options.verbose)
    print(*report.explained, *report.unexpected, sep="\n")
    print(f"{report.ran} tests, {len(report.explained)} differ with a reason, {len(report.unexpected)} without")
    return 1 if report.unexpected else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
