"""A deploy that breaks the site does not get in: the generation in force serves on, and the log says why."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.db.fixtures import postgres, postgres_db
from tests.db.servers import PostgresServer
from tests.processes.project import SETTINGS, VIEWS, Project
from tests.processes.server import Server, command, environment

__all__ = ["postgres", "postgres_db"]

CATALOGUE = "testproject/shop/views/catalogue.py"
WSGI = "testproject/wsgi.py"
Spoil = Callable[[Project], None]


def setting(text: str) -> Spoil:
    return lambda project: project.append(SETTINGS, text)


def view(body: str) -> Spoil:
    return lambda project: project.append(CATALOGUE, f"def catalogue(request):\n    {body}")


def _middleware(project: Project) -> None:
    project.append(
        VIEWS, 'def spoiled(get_response):\n    def ask(request):\n        raise RuntimeError("no answer today")'
    )
    project.append(VIEWS, "    return ask")
    project.append(SETTINGS, 'MIDDLEWARE.append("testproject.shop.views.plain.spoiled")')


def _unmigrated(project: Project) -> None:
    project.edit(
        "testproject/shop/models.py", "    description =", "    colour = models.TextField()\n    description ="
    )


def _not_callable(project: Project) -> None:
    project.append(WSGI, 'application = "shop"')


def _asgi(project: Project) -> None:
    project.append(WSGI, "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()")


REDIS = "django.core.cache.backends.redis.RedisCache"
MANIFEST = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
#: What is deployed, the stage and the module or question of the refusal, and a word of the reason or its traceback.
DEPLOYS: dict[str, tuple[Spoil, str, str, str]] = {
    "no secret key": (setting('SECRET_KEY = ""'), "probe", "SECRET_KEY", "SECRET_KEY is empty"),
    "no hosts": (setting("ALLOWED_HOSTS = []"), "probe", "ALLOWED_HOSTS", "400"),
    "other hosts": (setting('ALLOWED_HOSTS = ["shop.exmaple"]'), "probe", "GET /", "Invalid HTTP_HOST header"),
    "debug": (setting("DEBUG = True"), "probe", "DEBUG", "DEBUG is True"),
    "not callable": (_not_callable, "application", "testproject.wsgi", "cannot be called as a WSGI application"),
    "asgi": (_asgi, "application", "testproject.wsgi", "ASGI"),
    "a middleware that raises": (_middleware, "probe", "GET /", "no answer today"),
    "a view that raises": (view("return 1 / 0"), "probe", "GET /", "ZeroDivisionError"),
    "a missing template": (view('return render(request, "shop/gone.html")'), "probe", "GET /", "shop/gone.html"),
    "an unmigrated column": (_unmigrated, "probe", "GET /", "no such column"),
    "no static manifest": (
        setting(f'STORAGES["staticfiles"]["BACKEND"] = "{MANIFEST}"; STATIC_ROOT = "/nonexistent"'),
        "probe",
        "the manifest of the static files",
        "collectstatic",
    ),
    "a cache that is away": (
        setting(f"CACHES = {{'default': {{'BACKEND': '{REDIS}', 'LOCATION': 'redis://127.0.0.1:1'}}}}"),
        "probe",
        "cache 'default'",
        "Connection refused",
    ),
    "a view that ends the process": (view("import os; os._exit(9)"), "probe", "GET /", "exit code 9"),
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_bad_deploys_do_not_get_in(server: Server) -> None:
    server.project.append(SETTINGS, 'ALLOWED_HOSTS = ["localhost", "shop.example"]')
    server.start(workers=1)
    begin = server.log.mark()
    for name, (spoil, stage, module, word) in DEPLOYS.items():
        spoil(server.project)
        mark = server.hup()
        failed = server.wait_for("reload_failed", since=mark)
        assert (failed["stage"], failed["module"]) == (stage, module), name
        assert word in failed["error"] + failed["traceback"], name
        assert failed["level"] == "error"
        server.project.restore()
        server.project.append(SETTINGS, 'ALLOWED_HOSTS = ["localhost", "shop.example"]')
    assert server.get("/").status == 200
    assert not server.events("worker_retired", since=begin)
    assert not server.events("worker_spawned", since=begin)
    server.project.set_version(2)
    server.reload()
    server.wait_for_version(2)


#: What is changed in DATABASES, and what is said of it.
CONNECTIONS = {
    '["PORT"] = 1': "no server listens at 127.0.0.1, port 1",
    '["PASSWORD"] = "wrong"': "the server refuses us: the password of user 'app' is wrong, or there is no such user",
    '["NAME"] = "gone"': "the server refuses us: it has no database 'gone'",
}


def test_a_database_that_the_old_code_reaches_must_be_reached(
    server: Server, postgres: PostgresServer, postgres_db: str
) -> None:
    """The page itself asks no database, and the tables are not even there: / is as bad before as after."""
    server.start(workers=1, environ={"DATABASE_URL": postgres.url(postgres_db)})
    assert server.wait_for("probe_failed", question="GET /")["level"] == "warning"
    for change, word in CONNECTIONS.items():
        server.project.append(SETTINGS, f'DATABASES["default"]{change}')
        mark = server.hup()
        failed = server.wait_for("reload_failed", since=mark)
        assert (failed["stage"], failed["module"]) == ("probe", "database 'default'")
        assert word in failed["error"]
        server.project.restore()
    server.project.set_version(2)
    mark = server.reload()
    assert server.wait_for("probe_failed", since=mark, question="GET /"), "not worse than before, but still said"
    server.wait_for_version(2)


def test_a_page_that_hangs_keeps_the_old_code_serving(server: Server) -> None:
    """The child that answers is ended in time; where it hung is said; a worker that dies meanwhile is replaced."""
    server.start(workers=1)
    view("import time; time.sleep(3600)")(server.project)
    mark = server.hup()
    server.wait_for("mold_ready", since=mark)
    killed = server.kill(server.worker(0))
    server.wait_for("worker_ready", since=killed, generation=1)
    failed = server.wait_for("reload_failed", since=mark)
    assert failed["module"] == "GET /"
    assert "time.sleep(3600)" in failed["traceback"]
    assert server.get("/raw").status == 200


def test_a_page_for_members_only_is_no_failure(server: Server) -> None:
    server.start(workers=1)
    view('return redirect("/account/")')(server.project)
    server.project.set_version(2)
    server.reload()
    server.wait_for_version(2)


def test_the_application_can_tell_a_probe(server: Server, scratch: Path) -> None:
    """And nothing of it stays: the page changes a module, which no worker sees."""
    note = scratch / "note"
    note.touch(mode=0o666)
    server.project.append(
        CATALOGUE,
        f"""
def catalogue(request):
    global _seen
    _seen = True
    print(request.environ.get("djworker.probe"), request.COOKIES, file=open({str(note)!r}, "a"))
    return redirect("/raw")
""",
    )
    server.project.append(VIEWS, "def raw(request):\n    from testproject.shop.views import catalogue")
    server.project.append(VIEWS, "    return HttpResponse(str(hasattr(catalogue, '_seen')))")
    server.start(workers=1)
    server.reload()
    assert set(note.read_text().splitlines()) == {"True {}"}
    assert server.get("/raw").body == b"False"


def test_a_first_start_warns_and_a_strict_one_refuses(make_server: Callable[[], Server]) -> None:
    lenient, strict = make_server(), make_server()
    view("return 1 / 0")(lenient.project)
    lenient.start(workers=1)
    said = lenient.wait_for("probe_failed", question="GET /")
    assert said["level"] == "warning"
    assert "1 / 0" in said["traceback"]
    strict.launch(strict=True)
    assert "1 / 0" in strict.wait_for("mold_failed", stage="probe")["traceback"]
    assert strict.wait() == 3
    assert not strict.events("worker_spawned")


def test_a_site_that_is_not_probed_takes_everything(server: Server) -> None:
    server.tracebacks_expected = True
    server.start(workers=1, probe="off")
    view("return 1 / 0")(server.project)
    server.reload()
    assert server.get("/").status == 500


def test_the_check_fails_for_bad_answers_when_it_is_strict(project: Project) -> None:
    view("return 1 / 0")(project)

    def check(**options: object) -> subprocess.CompletedProcess[str]:
        words = command({"workers": 1, "bind": "127.0.0.1:0", **options}, "--check")
        return subprocess.run(
            words, cwd=project.folder, env=environment({}), capture_output=True, text=True, check=False, timeout=60
        )

    lenient, strict = check(), check(strict=True)
    assert (lenient.returncode, strict.returncode) == (0, 3)
    assert "probe_failed" in lenient.stderr
    assert "check_failed" in strict.stderr
    assert "1 / 0" in strict.stderr
    assert CATALOGUE in strict.stderr


def test_code_that_each_worker_loads_by_itself_is_asked_too(server: Server) -> None:
    server.start(workers=1, environ={"DJWORKER_PRELOAD": "off"})
    server.wait_for("spare_ready")  # which has the old code, and answers for it
    view("return 1 / 0")(server.project)
    mark = server.hup()
    failed = server.wait_for("reload_failed", since=mark)
    assert (failed["stage"], failed["module"]) == ("probe", "GET /")
    assert server.get("/").status == 200
