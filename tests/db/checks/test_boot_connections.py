"""A project that asks its database while it is loaded boots: its connections are closed for it, whatever the stage and engine."""

from __future__ import annotations

import pytest

from tests.db.servers import DatabaseServer
from tests.processes.project import SETTINGS, URLS, Project
from tests.processes.server import Server

APPS = "testproject/shop/apps.py"
WSGI = "testproject/wsgi.py"
ASK = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
"""
#: As deployments do it: many instances start, and one migrates.
MIGRATE = """
from django.core.management import call_command
from django.db import connection

def ask(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        cursor.fetchall()

locks = {
    "postgresql": ("SELECT pg_advisory_lock(5)", "SELECT pg_advisory_unlock(5)"),
    "mysql": ("SELECT GET_LOCK('migrate', 5)", "SELECT RELEASE_LOCK('migrate')"),
    "sqlite": ("SELECT 1", "SELECT 2"),
}
lock, unlock = locks[connection.vendor]
ask(lock)
call_command("migrate", verbosity=0)
ask(unlock)
"""
READY = """
import warnings
from django.apps import AppConfig

class ShopConfig(AppConfig):
    name = "testproject.shop"

    def ready(self):
        warnings.filterwarnings("ignore", "Accessing the database")
        from django.db import connection
        connection.cursor().execute("SELECT 1")
"""
VIEW = """
from django.db import connection
from django.http import HttpResponse

def asks(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM django_migrations")
        return HttpResponse(str(cursor.fetchone()[0]))

urlpatterns += [path("asks", asks)]
"""
CHECK = """
from django.core import checks

@checks.register
def asks_in_a_check(app_configs, **kwargs):
    from django.db import connection
    connection.cursor().execute("SELECT 1")
    return []
"""
HOOK = """
from django.dispatch import receiver
from djworker.signals import mold_ready

@receiver(mold_ready, weak=False)
def asks_in_a_hook(**kwargs):
    from django.contrib.contenttypes.models import ContentType
    ContentType.objects.count()
"""
#: In memory, in a copy, and in a greenlet that has ended.
OTHERS = """
import gevent
from django.db import connections
connections["other"].cursor().execute("SELECT 1")
kept = connection.copy()
kept.cursor().execute("SELECT 1")
elsewhere = []
def ask():
    elsewhere.append(connections["default"])
    elsewhere[0].cursor().execute("SELECT 1")
gevent.spawn(ask).join()
"""
IN_MEMORY = 'DATABASES["other"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}'
KINDS = ["sqlite", "postgres", "mariadb"]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a server: on which database."""
    if request.param == "sqlite":
        return {}
    asked: DatabaseServer = request.getfixturevalue(request.param)
    name: str = request.getfixturevalue(f"{request.param}_db")
    return {"DATABASE_URL": asked.url(name)}


def test_a_project_that_asks_in_every_stage_boots_and_serves(
    server: Server, project: Project, url: dict[str, str]
) -> None:
    project.append(SETTINGS, IN_MEMORY)
    project.write(APPS, READY)
    project.append(WSGI, MIGRATE)
    project.append(URLS, f"{ASK}{VIEW}{CHECK}{HOOK}{OTHERS}")
    project.settings(WARM_UP=["/asks"])
    server.start(workers=1, environ=url)
    assert int(server.get("/asks").body) > 10
    mark = server.reload()
    assert not server.events("mold_failed", mark)
    assert server.get("/asks").status == 200


def test_a_transaction_that_is_never_left_is_refused_with_its_line(
    server: Server, project: Project, url: dict[str, str]
) -> None:
    project.append(URLS, ASK)
    project.append(WSGI, f"from django.db import transaction\ntransaction.atomic().__enter__(){ASK}")
    server.launch(environ=url)
    assert server.wait() == 3
    failed = server.wait_for("mold_failed")
    assert (failed["stage"], failed["module"]) == ("leftovers", "testproject.wsgi")
    assert "a connection to database 'default', inside atomic(), which was never left" in failed["error"]
    assert "testproject/wsgi.py:" in failed["error"]
