"""What counts as a good answer: one process asks pages of every kind, as a child of a mold does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
from djworker.mold.patches import patching
patching.patch_all()
import itertools, json, logging, posix as raw, sys, time
import grpc
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["shop.example"], ROOT_URLCONF="__main__", PREPEND_WWW="www" in sys.argv,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"], SECURE_SSL_REDIRECT="tls" in sys.argv,
)
django.setup()
from django.core.exceptions import PermissionDenied
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpResponse, HttpResponseNotAllowed, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path
from djworker import process
from djworker.mold import probe

def raises(error):
    raise error

def pieces(*parts):
    for part in parts:
        if isinstance(part, BaseException):
            raise part
        yield part

def waits():
    yield b"data: x"
    time.sleep(3600)

def asks_a_service(request):
    try:
        grpc.channel_ready_future(grpc.insecure_channel("127.0.0.1:1")).result(timeout=0.1)
    except grpc.FutureTimeoutError:
        return HttpResponse("x")

async def later(request):
    raise ValueError("later")

VIEWS = {
    "page": lambda r: HttpResponse("x"),
    "login": lambda r: redirect("/page"),
    "elsewhere": lambda r: redirect("https://login.example/"),
    "round": lambda r: redirect("/round"),
    "secure": lambda r: HttpResponse("x") if r.is_secure() else redirect("https://" + r.get_host() + r.path),
    "basic": lambda r: HttpResponse(status=401),
    "forbidden": lambda r: raises(PermissionDenied()),
    "missing": lambda r: raises(Http404()),
    "post": lambda r: HttpResponseNotAllowed(["POST"]),
    "endless": lambda r: StreamingHttpResponse(itertools.repeat(b"x")),
    "events": lambda r: StreamingHttpResponse(waits(), content_type="text/event-stream"),
    "server": lambda r: HttpResponse(r.META["RAW_URI"] + r.META["REMOTE_PORT"] + r.META["SERVER_SOFTWARE"]),
    "browser": lambda r: HttpResponse(status=200 if r.headers["Accept"].startswith("text/html") else 500),
    "told": lambda r: HttpResponse("x") if r.environ["djworker.probe"] else raises(ValueError("a mail is sent")),
    "word": lambda r: HttpResponse("x") if r.path == "/word \\N{GREEK SMALL LETTER PI}" else raises(ValueError(r.path)),
    "grpc": asks_a_service,
    "boom": lambda r: 1 / 0,
    "later": later,
    "nothing": lambda r: None,
    "away": lambda r: HttpResponse(status=503),
    "bad": lambda r: HttpResponse(status=400),
    "midway": lambda r: StreamingHttpResponse(pieces(b"x", ValueError("midway"))),
    "exit": lambda r: sys.exit(1),
    "leads": lambda r: redirect("/boom"),
    "hangs": lambda r: time.sleep(3600),
    "blocks": lambda r: process.unpatched("time", "sleep")(3600),
}
urlpatterns = [path(name + (" \\N{GREEK SMALL LETTER PI}" if name == "word" else ""), view) for name, view in VIEWS.items()]

transcript = probe.Transcript(0)
written = []
paths = ["/" + name for name in sys.argv[1].split(",")]
if here := "here" in sys.argv:
    seconds = 0.5 if "briefly" in sys.argv else 60.0
    probe.answer_here(get_wsgi_application(), paths, (), written.append, seconds, lambda: raw._exit(7))
else:
    probe.answer(get_wsgi_application(), paths, (), written.append)
transcript.read(b"".join(written))
transcript.close("no answer")
assert not here or logging.getLogger("django.request").isEnabledFor(logging.ERROR)
json.dump(transcript.answers, sys.stdout)
"""
GOOD = (
    *("page", "login", "elsewhere", "round", "secure", "basic", "forbidden", "missing", "post", "endless", "events"),
    *("server", "browser", "told", "word%20%CF%80", "grpc"),
)
#: A page, and a word of what is said of it.
BAD = {
    "boom": "500 Internal Server Error: ZeroDivisionError",
    "later": "ValueError: later",
    "nothing": "didn't return an HttpResponse object",
    "away": "503 Service Unavailable",
    "bad": "400 Bad Request",
    "midway": "ValueError: midway",
    "exit": "SystemExit: 1",
    "leads": "ZeroDivisionError",
}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False, timeout=60
    )


def ask(*words: str) -> dict[str, Any]:
    done = run(*words)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """Of all pages."""
    return ask(",".join([*GOOD, *BAD]))


@pytest.mark.parametrize("page", GOOD)
def test_pages_that_visitors_get_are_good(answers: dict[str, Any], page: str) -> None:
    assert answers[f"GET /{page}"] == [False, "", ""]


@pytest.mark.parametrize("page", BAD)
def test_pages_that_fail_are_bad_and_say_why(answers: dict[str, Any], page: str) -> None:
    bad, text, stack = answers[f"GET /{page}"]
    assert bad
    assert BAD[page] in text
    assert ("Traceback" in stack) == (page not in {"away", "bad"})


def test_a_site_that_asks_for_tls_is_good() -> None:
    assert ask("page", "tls")["GET /page"] == [False, "", ""]


def test_a_site_that_sends_everybody_to_a_host_of_its_own_must_allow_it() -> None:
    bad, text, _stack = ask("page", "www")["GET /page"]
    assert bad
    assert "Invalid HTTP_HOST header: 'www.shop.example'" in text


def test_a_process_that_asks_itself_goes_on_after_a_page_that_ends_it() -> None:
    answers = ask("page,boom,exit,grpc,login", "here")
    assert {question: bad for question, (bad, _text, _stack) in answers.items()} == {
        "GET /page": False,
        "GET /boom": True,
        "GET /exit": True,
        "GET /grpc": False,
        "GET /login": False,
    }


def test_a_page_that_waits_for_ever_is_given_up_with_its_stack() -> None:
    """The pages after it are not asked: there is no time left."""
    [(question, (bad, text, stack))] = ask("hangs,login", "here", "briefly").items()
    assert (question, bad, text) == ("GET /hangs", True, "no answer")
    assert "File" in stack


def test_a_page_that_blocks_the_process_that_asks_itself_ends_it() -> None:
    assert run("blocks", "here", "briefly").returncode == 7
