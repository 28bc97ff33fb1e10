"""Settings that mean something else under a pool, or nothing, are told of; their neighbours are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.db.checks.site import Site, ids

HEAD = """
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["djworker"]
ROOT_URLCONF = "settings"
urlpatterns = []
OURS, DJANGOS = "djworker.db.backends.postgresql", "django.db.backends.postgresql"

def shop(engine, options=(), **more):
    return {"ENGINE": engine, "NAME": "shop", "OPTIONS": dict(options), **more}
"""
# An engine is known by its library's name; the library itself is not needed for that.
ENGINE = """
from types import SimpleNamespace
from django.db.backends.sqlite3 import base

class DatabaseWrapper(base.DatabaseWrapper):
    Database = SimpleNamespace(**{**vars(base.Database), "__name__": "NAME"})
    use_pure = PURE
"""
MIDDLEWARE = """
from django.db import connection

def raw(get_response):
    def middleware(request):
        connection.connection.isolation_level = 3
        return get_response(request)
    return middleware

class Asks:
    '''Never connection.connection.'''
    def __init__(self, get_response):
        self.get_response = get_response
    def __call__(self, request):
        if connection.connection is not None and connection.connection.info:
            connection.cursor()
        return self.get_response(request)
"""
MODULES = {
    "middleware": MIDDLEWARE,
    "blocking.base": ENGINE.replace("NAME", "pyodbc").replace("PURE", "False"),
    "c_extension.base": ENGINE.replace("NAME", "mysql.connector").replace("PURE", "False"),
    "pure.base": ENGINE.replace("NAME", "mysql.connector").replace("PURE", "True"),
}


def test_what_is_told_of(tmp_path: Path) -> None:
    settings = f"""{HEAD}
DATABASES = {{
    "default": shop(OURS),
    "aged": shop(OURS, CONN_MAX_AGE=60),
    "forever": shop(OURS, CONN_MAX_AGE=None),
    "healthy": shop(OURS, CONN_HEALTH_CHECKS=True),
    "atomic": shop(OURS, ATOMIC_REQUESTS=True),
    "manual": shop(OURS, AUTOCOMMIT=False),
    "strict": shop(OURS),
    "keyed": shop(OURS, {{"pool": {{"reset": print, "num_workers": 2}}}}),
    "wrong": shop(DJANGOS, {{"pool": {{"max_sise": 3}}}}),
    "file": shop("django.db.backends.sqlite3"),
    "odbc": shop("blocking"),
    "connector": shop("c_extension"),
}}
DJWORKER = {{"WORKERS": 3, "POOLS": {{"strict": {{"strict": True}}, "file": {{}}, "nobody": {{}}}}}}
MIDDLEWARE = ["middleware.raw"]
"""
    found = Site(tmp_path, settings, **MODULES).check()
    assert ids(found) == [
        "E021 wrong",
        "E024 POOLS",
        "W101 connector",
        "W101 odbc",
        "W102 aged",
        "W102 forever",
        "W103 healthy",
        "W104 atomic",
        "W105 strict",
        "W106 file",
        "W107 middleware.raw uses connection.connection: every request keeps its database connection to its end",
        "W109 manual",
        "W110 keyed",
        "W110 keyed",
        "W112 POOLS",
    ]
    assert all(hint for _, _, hint in found)
    texts = [text for _, text, _ in found]
    assert "'nobody', and DATABASES has no such alias" in texts[1]
    assert "'file', whose engine django.db.backends.sqlite3 has no pool" in texts[-1]


def test_what_is_not(tmp_path: Path) -> None:
    settings = f"""{HEAD}
DEBUG = True
DATABASES = {{
    "default": shop(DJANGOS, CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True, ATOMIC_REQUESTS=True, AUTOCOMMIT=False),
    "zero": shop(OURS, CONN_MAX_AGE=0, DISABLE_SERVER_SIDE_CURSORS=True),
    "whole": shop(OURS, ATOMIC_REQUESTS=True, AUTOCOMMIT=False),
    "strict": shop(OURS),
    "pool": shop(OURS, {{"pool": True}}),
    "keyed": shop(OURS, {{"pool": {{"min_size": 20, "max_waiting": 7}}}}),
    "djangos": shop(DJANGOS, {{"pool": {{"num_workers": 2}}}}),
    "file": shop("djworker.db.backends.sqlite3", CONN_MAX_AGE=60),
    "connector": shop("pure"),
}}
DJWORKER = {{"POOLS": {{"whole": {{"lease": "request"}}, "strict": {{"strict": True}}}}}}
MIDDLEWARE = ["middleware.Asks"]
"""
    site = Site(tmp_path, settings, **MODULES)
    assert site.check() == []
    assert "no issues" in site.manage("check").stdout


@pytest.mark.parametrize(
    "first,says",
    [
        ("import psycopg; from gevent import monkey; monkey.patch_all()", "psycopg was imported before gevent patched"),
        ("from gevent import monkey; monkey.patch_all(); import psycopg", ""),
        ("import psycopg", ""),
    ],
    ids=["late", "first", "never"],
)
def test_patching_too_late_is_found(tmp_path: Path, first: str, says: str) -> None:
    site = Site(tmp_path, f"{HEAD}\nDATABASES = {{'default': shop(OURS)}}", first)
    found = site.check()
    assert [number for number, _, _ in found] == (["djworker.E025"] if says else [])
    assert says in "".join(text for _, text, _ in found)


@pytest.mark.parametrize("imports,told", [("psycopg", True), ("socket", False)])
def test_late_patching_is_logged_where_nobody_runs_the_checks(tmp_path: Path, imports: str, *, told: bool) -> None:
    first = f"import {imports}; from gevent import monkey; monkey.patch_all()"
    site = Site(tmp_path, f"{HEAD}\nDATABASES = {{'default': shop(OURS)}}", first)
    said = site.manage("shell", "-c", "from django.db import connection; connection.leased_pool.stats()")
    assert said.returncode == 0, said
    assert ("'default' stops the whole process whenever it connects" in said.stderr) is told
