"""One label of Django's own test suite, run on one engine: where the tests come from, their settings, what came out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import django

from tests.db.servers import DatabaseServer, MariaDBServer, PostgresServer

LEASES = ("transaction", "request")
#: What is run, and how. SQLite has no lease, but Django's tests keep it in memory, where nothing ever waits.
MODES = {
    "postgresql": LEASES,
    "mysql": LEASES,
    "sqlite3": ("memory", "file"),
    "postgresql-psycopg2": LEASES,
    "mysql-pymysql": LEASES,
}
#: What makes Django take another client library than psycopg and mysqlclient.
DRIVERS = {
    "psycopg2": "import sys; sys.modules['psycopg'] = None",
    "pymysql": "import pymysql; pymysql.install_as_MySQLdb()",
}
ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "django-suite"
VERSIONS = f"django-{django.get_version()}-python-{sys.version_info.major}.{sys.version_info.minor}"
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
    def read(cls, label: str, output: str) -> Outcome:
        """From what unittest has written. Raises ValueError if it did not get to its end."""
        ran = _RAN.search(output)
        if ran is None:
            raise ValueError("the suite did not run")
        skipped = _SKIPPED.search(output)
        failed = set(_FAILED.findall(output))
        if "Traceback" in output[ran.end() :]:
            failed.add(f"{label}: {TEARDOWN}")
        return cls(int(ran[1]), int(skipped[1]) if skipped else 0, float(ran[2]), frozenset(failed))

    def as_json(self) -> str:
        """For the cache."""
        return json.dumps({**asdict(self), "failed": sorted(self.failed)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """From the cache."""
        known = json.loads(text)
        return cls(**{**known, "failed": frozenset(known["failed"])})


@dataclass(frozen=True)
class Stage:
    """A database with Django's tests beside it. `database` and `mode`: of MODES."""

    database: str
    mode: str
    tests: Path
    server: DatabaseServer | None

    @property
    def vendor(self) -> str:
        """Without the driver."""
        return self.database.partition("-")[0]

    def stock(self, label: str) -> Outcome:
        """On Django's own engine. The outcome is the same each time: run once per version."""
        place = f"{self.database}-{self.mode}" if self.server is None else self.database
        known = CACHE / "stock" / VERSIONS / place / f"{label}.json"
        if known.exists():
            return Outcome.from_json(known.read_text())
        outcome = self._run(label, f"django.db.backends.{self.vendor}", f"{place}-stock-{label}", patched=False)
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text(outcome.as_json())
        return outcome

    def ours(self, label: str) -> Outcome:
        """On our engine, in a patched interpreter."""
        name = f"{self.database}-{self.mode}-{label}"
        return self._run(label, f"djworker.db.backends.{self.vendor}", name, patched=True)

    def _run(self, label: str, engine: str, name: str, *, patched: bool) -> Outcome:
        with tempfile.TemporaryDirectory() as folder:
            lease = self.mode if patched and self.server else ""
            settings = settings_text(self._databases(engine, Path(folder)), lease)
            start = (PATCH if patched else "") + DRIVERS.get(self.database.partition("-")[2], "") + RUN
            return run_suite(self.tests, label, settings, name, start)

    def _databases(self, engine: str, folder: Path) -> dict[str, dict[str, Any]]:
        server = self.server
        if server is None:
            names = {
                alias: ":memory:" if self.mode == "memory" else f"{folder}/{alias}" for alias in ("default", "other")
            }
            return {alias: {"ENGINE": engine, "NAME": name, "TEST": {"NAME": name}} for alias, name in names.items()}
        login = {"USER": server.user, "PASSWORD": server.password, "HOST": server.host, "PORT": str(server.port)}
        test = {"CHARSET": "utf8mb4"} if self.vendor == "mysql" else {}
        names = {"default": "django", "other": "django_other"}
        return {alias: {"ENGINE": engine, "NAME": name, **login, "TEST": test} for alias, name in names.items()}


@contextmanager
def stage(database: str, mode: str) -> Iterator[Stage]:
    """Django's tests, and a server of our own (none for SQLite)."""
    tests = sources()
    vendor = database.partition("-")[0]
    kind = {"postgresql": PostgresServer, "mysql": MariaDBServer}.get(vendor)
    if kind is None:
        yield Stage(database, mode, tests, None)
        return
    with kind() as server:
        if vendor == "postgresql":  # the one extension of postgres_tests that its owner may not create
            server.execute("CREATE EXTENSION bloom", dbname="template1")
        for name in ("django", "django_other"):
            server.create_database(name)
        yield Stage(database, mode, tests, server)


def sources() -> Path:
    """The tests of the installed Django, unpacked under build/."""
    version = django.get_version()
    leased_pool = CACHE / f"django-{version}"
    if not (leased_pool / "tests" / "runtests.py").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tarfile.open(_archive(version)) as tar:
            tar.extractall(CACHE, filter="data")
    return leased_pool / "tests"


def _archive(version: str) -> Path:
    wanted = f"[Dd]jango-{version}.tar.gz"
    if not any(CACHE.glob(wanted)):
        what = ["--no-deps", "--no-binary", ":all:", f"Django=={version}"]
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(CACHE), *what], check=True)
    (archive,) = CACHE.glob(wanted)
    return archive


def settings_text(databases: dict[str, dict[str, Any]], lease: str) -> str:
    """A settings module for runtests.py; `lease` is empty where there is none."""
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
PATCH = """
from gevent import monkey
monkey.patch_all()
from djworker.mold.patches import asyncio_loops
asyncio_loops.install()
"""
RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_suite(tests: Path, label: str, settings: str, name: str, start: str) -> Outcome:
    """Run one label with these settings, by the program `start`. What it writes is kept as `name` under build/."""
    module = "djworker_suite_" + re.sub(r"\W", "_", name)
    (tests / f"{module}.py").write_text(settings)
    script = [str(tests / "runtests.py"), label, f"--settings={module}", "--parallel=1", "--noinput", "--verbosity=1"]
    environ = {
        "PYTHONPATH": f"{tests}:{ROOT}",
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "LC_ALL": "C.UTF-8",
        "HOME": str(CACHE),
    }
    kept = CACHE / "output" / VERSIONS / f"{name}.txt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.open("w") as output:
        subprocess.run(
            [sys.executable, "-c", start, *script],
            cwd=tests,
            env=environ,
            stdout=output,
            stderr=output,
            check=False,
            timeout=LABEL_LIMIT,
        )
    try:
        return Outcome.read(label, kept.read_text(errors="replace"))
    except ValueError as error:
        raise SystemExit(f"{label}: {error}, see {kept}:\n{kept.read_text(errors='replace')[-3000:]}") from None
