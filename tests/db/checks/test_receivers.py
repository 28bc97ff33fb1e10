"""Receivers of `connection_created` that look at a request are named, whatever way they look; others are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.db.checks.site import Site, ids

SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["djworker", "tenants.apps.Config"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}}
"""
APPS = """
from django.apps import AppConfig

class Config(AppConfig):
    name = "tenants"

    def ready(self):
        from django.db.backends.signals import connection_created
        from tenants.receivers import receive
        connection_created.connect(receive)
"""
STATE = """
import contextvars, threading
from asgiref.local import Local
CTX = contextvars.ContextVar("tenant", default="")
thread = threading.local()
local = Local()

def current():
    return getattr(local, "tenant", "")
"""
SET = "c.execute(\"SELECT set_config('app.tenant', %s, false)\", [VALUE])"
READS = {
    "a context variable": ("from tenants.state import CTX", "CTX.get()", "tenants.receivers.CTX"),
    "a thread-local of a module": ("from tenants import state", "state.thread.tenant", "tenants.state.thread"),
    "a function": ("from tenants.state import current", "current()", "tenants.state.local"),
}
PLAIN = "def receive(sender, connection, **kwargs):\n    with connection.cursor() as c:\n        "


def found(tmp_path: Path, code: str, settings: str = SETTINGS) -> list[tuple[str, str, str]]:
    modules = {"tenants.__init__": "", "tenants.apps": APPS, "tenants.state": STATE, "tenants.receivers": code}
    return Site(tmp_path, settings, **modules).check()


@pytest.mark.parametrize("way", list(READS))
def test_a_receiver_that_reads_what_belongs_to_a_request_is_named(tmp_path: Path, way: str) -> None:
    imports, value, state = READS[way]
    ((number, text, hint),) = found(tmp_path, f"{imports}\n{PLAIN}{SET.replace('VALUE', value)}")
    assert number == "djworker.W113"
    assert text.startswith(
        f"tenants.receivers.receive, a receiver of connection_created, reads {state}: for database 'def"
    )
    assert "middleware" in hint


def test_a_decorated_one_and_an_import_within_are_seen_through(tmp_path: Path) -> None:
    code = f"""
import functools
import tenants.state
def quiet(function):
    @functools.wraps(function)
    def inner(**kwargs):
        return function(**kwargs)
    return inner

@quiet
def receive(sender, connection, **kwargs):
    from tenants.state import CTX
    def run():
        with connection.cursor() as c:
            {SET.replace("VALUE", "CTX.get()")}
    run()
"""
    assert ids(found(tmp_path, code)) == ["W113 default"]


@pytest.mark.parametrize(
    "code",
    [
        PLAIN + "c.execute('SET statement_timeout = 5000')",
        "from tenants.state import CTX\ndef receive(connection, **kwargs):\n    connection.request = CTX.get()",
    ],
)
def test_a_receiver_that_is_right_is_not_named(tmp_path: Path, code: str) -> None:
    assert found(tmp_path, code) == []


def test_an_engine_without_a_pool_is_djangos_own_affair(tmp_path: Path) -> None:
    imports, value, _ = READS["a context variable"]
    settings = SETTINGS.replace("postgresql", "sqlite3")
    assert found(tmp_path, f"{imports}\n{PLAIN}{SET.replace('VALUE', value)}", settings) == []
