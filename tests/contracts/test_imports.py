"""Who may import whom: as declared, and as it is when the program runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "djworker"
BASE = ("conf.table", "ipc.messages", "ipc.channel", "ipc.scoreboard", "process", "accounts", "log")
# The arbiter outlives every generation of the code: whatever it loads stays, and is never renewed by a reload.
FOREIGN = {"django", "gevent", "greenlet", "httptools", "psycogreen", "psycopg", "psycopg2", "pymysql", "MySQLdb"}


def modules_after(statement: str) -> set[str]:
    """Names in `sys.modules` of a fresh interpreter, the packages that site loads by itself left out."""
    program = f"import sys; before = set(sys.modules)\n{statement}\nprint(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def every_module(package: Path) -> list[str]:
    """Dotted names of all modules in a package, without `__main__`, which would run."""
    files = sorted(path.relative_to(ROOT) for path in package.rglob("*.py") if path.name != "__main__.py")
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]


def import_all(names: list[str]) -> str:
    return "import importlib\nfor name in " + repr(names) + ": importlib.import_module(name)"


def test_the_declared_contracts_are_kept() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_arbiter_loads_no_django_and_no_gevent() -> None:
    loaded = modules_after(import_all(every_module(PACKAGE / "arbiter")))
    assert not {name for name in loaded if name.partition(".")[0] in FOREIGN}
    assert not {
        name for name in loaded if name.startswith(("djworker.http", "djworker.mold", "djworker.worker", "djworker.db"))
    }


@pytest.mark.parametrize("module", BASE)
def test_a_base_module_loads_only_the_standard_library(module: str) -> None:
    loaded = {name.partition(".")[0] for name in modules_after(f"import djworker.{module}")}
    assert loaded <= {*sys.stdlib_module_names, "djworker"}


def test_http_loads_no_django() -> None:
    loaded = modules_after(import_all(every_module(PACKAGE / "http")))
    assert "django" not in loaded


@pytest.mark.parametrize("module", ["worker", "watchdog"])
def test_a_worker_loads_no_django_by_itself(module: str) -> None:
    assert "django" not in modules_after(f"import djworker.worker.{module}")


def test_the_pool_loads_no_django_and_no_driver() -> None:
    loaded = {name.partition(".")[0] for name in modules_after("import djworker.db.pool.pool")}
    assert not loaded & (FOREIGN - {"gevent", "greenlet"})


def test_the_package_itself_imports_nothing() -> None:
    assert modules_after("import djworker") <= {"djworker"}


def test_settings_can_be_checked_without_gevent() -> None:
    """`migrate` and `runserver` have djworker in INSTALLED_APPS too, and must stay as they are: unpatched and lean."""
    loaded = modules_after(
        "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'testproject.settings'; django.setup()\n"
        "from django.core.checks import run_checks; assert run_checks() == [], 'the shop has nothing to be told of'",
    )
    assert "django" in loaded
    assert not loaded & {"gevent", "gevent.monkey", "djworker.worker", "djworker.http"}
