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


#: `receive` with the name of the way in place of it, and what is read.
OTHER_WAYS = """
import contextvars, functools, threading
from gevent.local import local
from tenants.state import CTX
import scopes_of.state, django_scopes_of.state

def put(connection, value):
    with connection.cursor() as c:
        c.execute("SELECT set_config('app.tenant', %s, false)", [value])

class Manager:
    held = contextvars.ContextVar("tenant", default="")
    def __init__(self):
        self.thread = threading.local()
    def of_object(self):
        return self.held.get()
    @classmethod
    def of_class(cls):
        return cls.held.get()
    @staticmethod
    def of_none():
        return CTX.get()
    @property
    def tenant(self):
        return CTX.get()
    def __call__(self, connection, **kwargs):
        put(connection, self.of_object())
    def method(self, connection, **kwargs):
        put(connection, self.thread.tenant)

class StandsFor:
    def __str__(self):
        return CTX.get()

@functools.cache
def remembered():
    return CTX.get()

def with_more(what, connection, **kwargs):
    put(connection, what.get())

manager, proxy, greenlet, known = Manager(), StandsFor(), local(), {"tenant": CTX}
"""
READING = {
    "package_like_djangos": "django_scopes_of.state.current()",
    "another_package": "scopes_of.state.current()",
    "attribute_of_a_class": "Manager.held.get()",
    "classmethod_": "Manager.of_class()",
    "staticmethod_": "Manager.of_none()",
    "method_": "manager.of_object()",
    "property_": "manager.tenant",
    "attribute_": "manager.thread.tenant",
    "proxy_": "str(proxy)",
    "greenlet_": "greenlet.tenant",
    "remembered_": "remembered()",
    "context_": "contextvars.copy_context().get(1)",
    "dict_": "known['tenant'].get()",
}
NOT_READING = {"constant_": "Manager.__name__", "setting_": "settings.SECRET_KEY", "logger_": "str(logger.name)"}
RECEIVING = "def {}(connection, **kwargs):\n    put(connection, {})\n"
BY_ARGUMENT = """
import logging
from django.conf import settings
logger = logging.getLogger("tenants")
def by_default(connection, what=CTX, **kwargs):
    put(connection, what.get())
called = Manager()
method_of_receiver = Manager().method
partial_ = functools.partial(with_more, CTX)
"""
CONNECT = "from tenants import receivers\n        for name in {}:\n            receive = getattr(receivers, name)"


def test_a_request_is_seen_behind_classes_objects_arguments_and_other_packages(tmp_path: Path) -> None:
    """One project with all of them: a project that has one is like it, and takes as long."""
    functions = {**READING, **NOT_READING}
    named = [*READING, "by_default", "called", "method_of_receiver", "partial_"]
    receivers = "".join(RECEIVING.format(*each) for each in functions.items())
    apps = APPS.replace("from tenants.receivers import receive", CONNECT.format([*named, *NOT_READING]))
    apps = apps.replace(
        "        connection_created.connect(receive)", "            connection_created.connect(receive, weak=False)"
    )
    other = {
        f"{name}.{module}": text
        for name in ("scopes_of", "django_scopes_of")
        for module, text in (("__init__", ""), ("state", STATE))
    }
    modules = {"tenants.__init__": "", "tenants.apps": apps, "tenants.state": STATE, **other}
    found = Site(tmp_path, SETTINGS, **modules, **{"tenants.receivers": OTHER_WAYS + BY_ARGUMENT + receivers}).check()
    names = {text.partition(", a receiver")[0].removeprefix("tenants.receivers.") for _, text, _ in found}
    assert names == {*READING, "by_default", "Manager", "Manager.method", "with_more"}
    assert len(found) == len(named)
