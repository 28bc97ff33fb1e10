"""Django's own test suite on our engines, under gevent, beside the stock engine: `make test-django`.

The suite comes with Django's source distribution, in the version that is installed. Every label runs twice: on the stock engine,
unpatched, and on ours in a gevent-patched interpreter. What fails only on ours must be in `django_expected.toml`, with a reason.

    python -m tests.db.django_suite --database postgresql --lease transaction backends transactions
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

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
ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "django-suite"
#: Seconds for one label; `queries` and `migrations` take some minutes each on two busy cores.
LABEL_LIMIT = 1800
#: `FAIL: test_name (package.module.Class.test_name)`, with a subtest's parameters behind it.
_FAILED = re.compile(r"^(?:FAIL|ERROR): .*?\((\w+(?:\.\w+)+)\)", re.MULTILINE)
_RAN = re.compile(r"^Ran (\d+) tests? in ([\d.]+)s$", re.MULTILINE)
_SKIPPED = re.compile(r"^(?:OK|FAILED) \(.*?skipped=(\d+)", re.MULTILINE)
#: Not a test: the databases could not be taken down.
TEARDOWN = "the end of the run"


@dataclass(frozen=True)
class Outcome:
    """What one run of one label gave."""

    ran: int
    skipped: int
    seconds: float
    failed: frozenset[str]

    @classmethod
    def read(cls, output: str) -> Outcome:
        """From what unittest has written. Raises ValueError if it did not get to its end."""
        ran = _RAN.search(output)
        if ran is None:
            raise ValueError("the suite did not run")
        skipped = _SKIPPED.search(output)
        failed = set(_FAILED.findall(output))
        if "Traceback" in output[ran.end() :]:
            failed.add(TEARDOWN)
        return cls(int(ran[1]), int(skipped[1]) if skipped else 0, float(ran[2]), frozenset(failed))

    def as_json(self) -> str:
        """For the cache."""
        return json.dumps({**asdict(self), "failed": sorted(self.failed)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """From the cache."""
        known = json.loads(text)
        return cls(**{**known, "failed": frozenset(known["failed"])})


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
        if database == "postgresql":  # the one extension of postgres_tests that its owner may not create
            server.execute("CREATE EXTENSION bloom", dbname="template1")
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


def run_suite(tests: Path, label: str, settings: str, name: str, *, patched: bool) -> Outcome:
    """Run one label with these settings. What it writes is kept as `name` under build/."""
    module = f"djworker_suite_{name.replace('-', '_')}"
    (tests / f"{module}.py").write_text(settings)
    script = [str(tests / "runtests.py"), label, f"--settings={module}", "--parallel=1", "--noinput", "--verbosity=1"]
    start = [sys.executable, "-c", _PATCHED] if patched else [sys.executable]
    environ = {
        "PYTHONPATH": f"{tests}:{ROOT}",
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "LC_ALL": "C.UTF-8",
        "HOME": str(CACHE),
    }
    kept = CACHE / "output" / f"{name}.txt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.open("w") as output:
        subprocess.run(
            [*start, *script], cwd=tests, env=environ, stdout=output, stderr=output, check=False, timeout=LABEL_LIMIT
        )
    try:
        return Outcome.read(kept.read_text(errors="replace"))
    except ValueError as error:
        raise SystemExit(f"{label}: {error}, see {kept}:\n{kept.read_text(errors='replace')[-3000:]}") from None


def stock_outcome(tests: Path, label: str, database: str, server: DatabaseServer | None) -> Outcome:
    """Django's own engine, whose outcome is the same each time: run once per version."""
    versions = f"django-{django.get_version()}-python-{sys.version_info.major}.{sys.version_info.minor}"
    known = CACHE / "stock" / versions / database / f"{label}.json"
    if known.exists():
        return Outcome.from_json(known.read_text())
    settings = settings_text(f"django.db.backends.{database}", server, "")
    outcome = run_suite(tests, label, settings, f"{database}-stock-{label}", patched=False)
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(outcome.as_json())
    return outcome


@functools.cache
def expected() -> list[dict[str, Any]]:
    """The rows of the list: name (a pattern), databases, leases (both if missing), reason."""
    rows: list[dict[str, Any]] = tomllib.loads(EXPECTED.read_text())["test"] if EXPECTED.exists() else []
    return rows


def explanation(test: str, database: str, lease: str) -> str | None:
    """Why this test may fail on our engine, if it may."""
    for row in expected():
        if fnmatchcase(test, row["name"]) and database in row["databases"] and lease in row.get("leases", LEASES):
            reason: str = row["reason"]
            return reason
    return None


def compare(database: str, lease: str, labels: Sequence[str], report: Report) -> None:
    """Run each label on both engines and note the differences."""
    tests = sources()
    with server_for(database) as server:
        for label in labels:
            stock = stock_outcome(tests, label, database, server)
            settings = settings_text(f"djworker.db.backends.{database}", server, lease)
            ours = run_suite(tests, label, settings, f"{database}-{lease}-{label}", patched=True)
            note(f"{database} {lease} {label}", stock, ours, report, (database, lease))


def note(run: str, stock: Outcome, ours: Outcome, report: Report, where: tuple[str, str]) -> None:
    """Compare two outcomes."""
    report.ran += ours.ran
    differ = sorted(ours.failed - stock.failed)
    print(
        f"{run}: {ours.ran} tests ({ours.skipped} skipped) in {ours.seconds:.0f} s (stock {stock.seconds:.0f} s);"
        f" fail: stock {len(stock.failed)}, ours {len(ours.failed)}; differ: {len(differ)}",
        flush=True,
    )
    for what, here, there in (("ran", ours.ran, stock.ran), ("skipped", ours.skipped, stock.skipped)):
        if here != there:
            report.unexpected.append(f"{run}: {what} {here} tests, stock {there}")
    for test in differ:
        reason = explanation(test, *where)
        (report.explained if reason else report.unexpected).append(f"{run}: {test}: {reason or 'NEW'}")


def main(arguments: Sequence[str]) -> int:
    """0 when nothing fails that need not."""
    parser = argparse.ArgumentParser(prog="python -m tests.db.django_suite", description=__doc__.partition("\n")[0])
    parser.add_argument("labels", nargs="*", default=LABELS)
    parser.add_argument("--database", choices=DATABASES, action="append")
    parser.add_argument("--lease", choices=LEASES, action="append")
    options = parser.parse_args(arguments)
    report = Report()
    for database in options.database or DATABASES:
        for lease in options.lease or LEASES:
            compare(database, lease, options.labels or LABELS, report)
    print(*report.explained, *report.unexpected, sep="\n")
    print(f"{report.ran} tests, {len(report.explained)} differ with a reason, {len(report.unexpected)} without")
    return 1 if report.unexpected else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
