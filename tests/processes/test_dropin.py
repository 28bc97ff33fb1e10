"""What runs under ``gunicorn -k gevent``, runs: each input beside gunicorn, with the same words, and the same answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.processes import small
from tests.processes.server import Server

#: A project reads its file of variables before it chooses the settings, which need them.
DOTENV = """
import os
from pathlib import Path
for line in Path(__file__).parent.with_name(".env").read_text().split():
    os.environ.setdefault(*line.split("="))
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
FACTORY = """
import os
from django.core.wsgi import get_wsgi_application

def create(settings, *, key="x"):
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    os.environ["SITE_KEY"] = key
    return get_wsgi_application()

class site:
    class inner:
        @staticmethod
        def application(environ, start_response):
            global app
            return app(environ, start_response)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.prod")
"""
WRAPPED = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.prod")
from django.core.wsgi import get_wsgi_application
inside = get_wsgi_application()

def application(environ, start_response):
    return inside({**environ, "shop.wrapped": "yes"}, start_response)

app = application
"""
ALIAS = """
import importlib, os, sys
sys.modules["config"] = importlib.import_module("shop")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.prod")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
SINGLE = """
import os
from django.conf import settings
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF="shop.urls", SECRET_KEY="single", DEBUG=False)
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
SET_UP_BY_HAND = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.prod")
import django
django.setup()
from django.core.handlers.wsgi import WSGIHandler
application = WSGIHandler()
"""
PATCHED = "from gevent import monkey\nmonkey.patch_all()\n" + small.FILES["shop/wsgi.py"]
ASSIGNED = small.FILES["shop/wsgi.py"].replace(
    'environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.prod")', 'environ["DJANGO_SETTINGS_MODULE"] = "shop.prod"'
)


@dataclass(frozen=True)
class Input:
    """Words for both servers, and what the project then says of itself."""

    words: str = "shop.wsgi"
    files: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    says: Mapping[str, object] = field(default_factory=dict)
    #: The folder in which both are started, below the project's.
    start: str = "."


DEV = {"DJANGO_SETTINGS_MODULE": "shop.dev"}
INPUTS = {
    "the module chooses": Input(says={"settings": "shop.prod", "debug": False}),
    "the environment chooses before setdefault": Input(environ=DEV, says={"settings": "shop.dev", "debug": True}),
    "an assignment wins": Input(files={"shop/wsgi.py": ASSIGNED}, environ=DEV, says={"settings": "shop.prod"}),
    "a file of variables": Input(
        files={"shop/wsgi.py": DOTENV, ".env": "DJANGO_SETTINGS_MODULE=shop.prod SITE_KEY=from-a-file"},
        says={"settings": "shop.prod", "key": "from-a-file"},
    ),
    "another name": Input("shop.wsgi:app", {"shop/wsgi.py": WRAPPED}, says={"wrapped": "yes"}),
    "a factory with literals": Input(
        "shop.wsgi:create('shop.dev',key='made')",
        {"shop/wsgi.py": FACTORY},
        says={"settings": "shop.dev", "key": "made"},
    ),
    "a module under another name": Input(files={"shop/wsgi.py": ALIAS}, says={"settings": "config.prod"}),
    "settings in the module itself": Input(files={"shop/wsgi.py": SINGLE}, says={"key": "single"}),
    "set up by hand": Input(files={"shop/wsgi.py": SET_UP_BY_HAND}, says={"settings": "shop.prod"}),
    "patched by the module as well": Input(files={"shop/wsgi.py": PATCHED}, says={"settings": "shop.prod"}),
    "another folder": Input("shop.wsgi --chdir ..", start="shop", says={"settings": "shop.prod"}),
    "import paths": Input(
        "entry --pythonpath one,two",
        {"one/entry.py": "from other import application", "two/other.py": "from shop.wsgi import application"},
        says={"settings": "shop.prod"},
    ),
    "variables of the command line": Input(
        "shop.wsgi -e SITE_KEY=a=b --env DJANGO_SETTINGS_MODULE=shop.dev",
        says={"settings": "shop.dev", "key": "a=b", "site": {"SITE_KEY": "a=b"}},
    ),
    "the short options": Input(
        "-w 1 -t 20 --preload --threads 2 -n shop -R --keep-alive 5 --log-file - shop.wsgi", says={"debug": False}
    ),
}


@pytest.mark.parametrize("given", INPUTS.values(), ids=list(INPUTS))
def test_it_answers_as_under_gunicorn(given: Input, scratch: Path, make_server: Callable[..., Server]) -> None:
    project = small.make(scratch / "small", given.files)
    start = (project.folder / given.start).resolve()
    words = given.words.split()
    with small.gunicorn(words, start, given.environ, scratch / "gunicorn.log") as beside:
        server = make_server(type(project)(start))
        server.launch(program=("-m", "djworker", "-k", "gevent", *words), environ=given.environ, workers=1)
        server.wait_for("worker_ready")
        ours, theirs = small.answer(server.address), small.answer(beside)
    assert ours == theirs, (scratch / "gunicorn.log").read_text()
    assert ours == {**ours, **given.says}


def test_a_reload_asks_the_module_again(scratch: Path, make_server: Callable[..., Server]) -> None:
    project = small.make(scratch / "small", {".env": "DJANGO_SETTINGS_MODULE=shop.prod SITE_KEY=1"})
    project.write("shop/wsgi.py", DOTENV)
    server = make_server(project)
    server.start(program=("-m", "djworker", "shop.wsgi"), workers=1)
    project.write("shop/next.py", "from shop.prod import *\n")
    project.write(".env", "DJANGO_SETTINGS_MODULE=shop.next SITE_KEY=2")
    server.reload()
    server.wait_for("worker_gone")
    answer = small.answer(server.address)
    assert (answer["settings"], answer["key"]) == ("shop.next", "2")
    assert not server.events("probe_failed"), "a project without a database, and without users, is fit"
    project.write("shop/wsgi.py", "raise RuntimeError('not today')")
    mark = server.hup()
    server.wait_for("reload_failed", since=mark)
    failed = server.wait_for("mold_failed", since=mark)
    assert (failed["stage"], failed["module"]) == ("application", "shop.wsgi")
    assert small.answer(server.address)["key"] == "2", "the old generation serves on"
