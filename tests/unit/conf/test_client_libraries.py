"""An engine without its client library is known before anything starts, in a process that has none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import json, sys
from djworker.conf.client_libraries import missing
sys.path[:] = [path for path in sys.path if "site-packages" not in path]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
for module in json.loads(sys.argv[2]):
    sys.modules[module] = sys
print(json.dumps([str(problem) for problem in missing(json.loads(sys.argv[1]))]))
"""


def missing(engines: dict[str, str], *there: str) -> list[str]:
    """What is said of aliases with these engines, where these modules alone are there."""
    databases = {alias: {"ENGINE": engine} for alias, engine in engines.items()}
    words = [sys.executable, "-c", PROGRAM, json.dumps(databases), json.dumps(there)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def test_each_engine_without_its_library_is_named_with_the_remedy() -> None:
    found = missing(
        {
            "default": "django.db.backends.postgresql",
            "maps": "djworker.db.backends.postgis",
            "shop": "django.db.backends.mysql",
            "cache": "django.db.backends.sqlite3",
            "own": "shop.backends.mysql",
            "none": "",
        }
    )
    assert [line.split("'")[1] for line in found] == ["default", "maps", "shop"]
    assert found[0].startswith("djworker.E026: database 'default' is PostgreSQL's, and neither psycopg nor psycopg2 is")
    assert found[0].endswith("pip install 'djworker[postgres]'")
    assert "neither MySQLdb nor pymysql" in found[2]


def test_one_of_several_libraries_is_enough() -> None:
    engines = {"default": "django.db.backends.postgresql", "shop": "django.db.backends.mysql"}
    assert missing(engines, "psycopg2", "pymysql") == []
    assert missing(engines, "psycopg", "psycopg_binary", "MySQLdb") == []
