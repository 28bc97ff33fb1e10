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
PATCH = "from gevent import monkey\nmonkey.patch_all()\n"
PATCHED = PATCH + small.FILES["shop/wsgi.py"]
#: gevent's patch looks at all objects, and a look at this one loads the settings.
WITH_STORAGE = "from django.core.files.storage import default_storage\n" + small.FILES["shop/wsgi.py"]
ASSIGNED = small.FILES["shop/wsgi.py"].replace(
    'environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.prod")', 'environ["DJANGO_SETTINGS_MODULE"] = "shop.prod"'
)

#: What no fork harms: names are looked up, libraries begin again, queues and executors are idle.
SHARED = """
import logging.handlers, multiprocessing, queue, signal, socket, sqlite3
from concurrent.futures import ThreadPoolExecutor
import elasticapm, grpc, numpy, posthog, redis, requests, sentry_sdk
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

sentry_sdk.init("http://key@localhost:1/1", enable_logs=True, traces_sample_rate=1.0)
logging.getLogger("shop").error("while loading")
TracerProvider().add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
elasticapm.Client(service_name="shop", server_url="http://localhost:1", cloud_provider="none")
posthog.api_key, posthog.host = "key", "http://localhost:1"
posthog.capture("loading", distinct_id="shop")
logging.getLogger("elsewhere").addHandler(logging.handlers.SysLogHandler(("localhost", 9)))
for ask in (lambda: requests.get("http://localhost:1/"), lambda: redis.Redis("localhost", 1).ping()):
    try:
        ask()
    except (requests.exceptions.ConnectionError, redis.exceptions.ConnectionError):
        pass
signal.signal(signal.SIGUSR2, lambda *_: None)
database = sqlite3.connect(":memory:", check_same_thread=False)
idle, queued = ThreadPoolExecutor(1), queue.Queue()

def started():
    queued.put(idle.submit(len, "four").result(5))
    return [queued.get(timeout=5), database.execute("SELECT 1").fetchone()[0]]
"""
#: What each worker begins for itself.
ALONE = """
import asyncio, queue, threading
from concurrent.futures import ThreadPoolExecutor
from logging.handlers import QueueListener
import gevent
from apscheduler.schedulers.background import BackgroundScheduler
from confluent_kafka import Producer
from prometheus_client import start_http_server

scheduler = BackgroundScheduler()
scheduler.start()
QueueListener(queue.Queue()).start()
start_http_server(0, "127.0.0.1")
threading.Timer(3600, print).start()
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
executor = ThreadPoolExecutor(1)
executor.submit(int).result(5)
producer = Producer({"bootstrap.servers": "localhost:1", "log_level": 0})

def beat():
    while True:
        gevent.sleep(0.1)

gevent.spawn(beat)

async def answer():
    await asyncio.sleep(0)
    return "from the loop"

def started():
    return [asyncio.run_coroutine_threadsafe(answer(), loop).result(5), executor.submit(len, "four").result(5)]
"""
#: Processes that answer one parent.
PROCESSES = """
from shop.base import *
import multiprocessing, subprocess

def answer(questions, answers):
    while True:
        answers.send(questions.recv() + 1)

context = multiprocessing.get_context("fork")
questions, ask = context.Pipe(duplex=False)
answers, tell = context.Pipe(duplex=False)
context.Process(target=answer, args=(questions, tell), daemon=True).start()
cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

def started():
    ask.send(4)
    cat.stdin.write(b"four\\n")
    cat.stdin.flush()
    return [answers.recv(), cat.stdout.readline().decode(), cat.poll()]
"""
ASKED = small.FILES["shop/urls.py"].replace('"cwd":', '"started": __import__("shop.starts").starts.started(), "cwd":')


def starts(text: str) -> dict[str, str]:
    """A project that starts this while it loads, and answers what came of it."""
    return {"shop/starts.py": text, "shop/urls.py": f"import shop.starts\n{ASKED}"}


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
    "patched by the settings": Input(
        files={"shop/prod.py": f"{PATCH}from shop.base import *", "shop/wsgi.py": WITH_STORAGE},
        says={"settings": "shop.prod"},
    ),
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
    "what no fork harms": Input(files=starts(SHARED), says={"started": [4, 1]}),
    "what each worker begins for itself": Input(files=starts(ALONE), says={"started": ["from the loop", 4]}),
    "processes that the settings begin": Input(
        files={
            "shop/prod.py": PROCESSES,
            "shop/urls.py": ASKED.replace('__import__("shop.starts").starts', '__import__("shop.prod").prod'),
        },
        says={"started": [5, "four\n", None]},
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
    assert bool(server.events("not_shared")) == bool({ALONE, PROCESSES} & set(given.files.values()))


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
