"""One id for all that is said of a request: its log records, events, access log, answer, and what operators are shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.control import ask
from tests.processes.events import eventually
from tests.processes.project import SETTINGS, URLS, copy_template
from tests.processes.server import Server

VIEWS = '''
import contextvars, logging, threading
import gevent
from asgiref.sync import sync_to_async
from django.http import JsonResponse, StreamingHttpResponse
from django.urls import path
from gevent.threadpool import ThreadPool
from djworker.log.request_id import current

logger = logging.getLogger("shop.said")

def everywhere(request):
    """Says so in the view, in what it begins, and in a native thread with and without its context."""
    found = {"header": request.headers.get("X-Request-ID", ""), "view": current()}
    logger.warning("in the view", extra={"mark": "view"})
    gevent.sleep(0.05)
    def note(name):
        found[name] = current()
        logger.warning("in %s", name)
    gevent.spawn(contextvars.copy_context().run, note, "greenlet").join()
    thread = threading.Thread(target=contextvars.copy_context().run, args=(note, "thread"))
    thread.start()
    thread.join()
    pool = gevent.get_hub().threadpool
    found["native with the context"] = pool.apply(contextvars.copy_context().run, (current,))
    found["bare"] = {gevent.spawn(current).get(), pool.apply(current)} == {"-"} and "-"
    return JsonResponse(found)

async def awaits(request):
    return JsonResponse({"view": current(), "beside": await sync_to_async(current)()})

def streams(request):
    def blocks():
        yield current()
        gevent.sleep(0.01)
        yield " " + current()
    return StreamingHttpResponse(blocks())

def own(request):
    logger.warning("its own", extra={"request_id": "mine"})
    return JsonResponse({}, headers={"X-Request-ID": "mine"})

def fails(request):
    raise ValueError("as asked")

def waits(request):
    gevent.sleep(60)

urlpatterns += [path(f"id/{view.__name__}", view) for view in (everywhere, awaits, streams, own, fails, waits)]
'''
LOGGING = """
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"ids": {"format": "said %(request_id)s %(name)s %(message)s"}},
    "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "ids"}},
    "loggers": {"shop": {"handlers": ["stdout"], "level": "INFO"}},
}
"""


@pytest.fixture(scope="module")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One tree with one worker, which believes proxies at 127.0.0.1 and no others."""
    folder = tmp_path_factory.mktemp("ids")
    project = copy_template(template, folder / "shop")
    project.append(URLS, VIEWS)
    project.append(SETTINGS, LOGGING)
    server = Server(project, folder)
    server.tracebacks_expected = True
    log = folder / "access.log"
    server.start(
        workers=1,
        probe="off",
        request_id="answer",
        forwarded_allow_ips="127.0.0.1",
        access_log=str(log),
        access_log_format="json",
        bind=["127.0.0.1:0", f"unix:{folder}/socket"],
    )
    yield server
    server.stop()
    server.close()


def said(server: Server) -> list[str]:
    return [line for line in server.output.read_text().splitlines() if line.startswith("said ")]


def access(server: Server, identity: str) -> list[dict[str, Any]]:
    lines = (server.scratch / "access.log").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["request_id"] == identity]


def test_the_id_of_a_believed_proxy_is_everywhere(shared: Server) -> None:
    answer = shared.get("/id/everywhere", headers={"X-Request-ID": "proxy-1"})
    found = answer.json()
    assert found.pop("bare") == "-"
    assert set(found.values()) == {"proxy-1"}, found
    assert answer.headers["x-request-id"] == "proxy-1"
    records = [line for line in said(shared) if " proxy-1 " in line]
    assert [line.rpartition(" in ")[2] for line in records] == ["the view", "greenlet", "thread"]
    [line] = eventually(lambda: access(shared, "proxy-1"), "the access log has it")
    assert line["path"] == "/id/everywhere"


def test_requests_at_once_have_each_their_own(shared: Server) -> None:
    answers = [shared.in_background("/id/everywhere").answer() for _ in range(3)]
    waiting = [shared.in_background("/id/everywhere") for _ in range(20)]
    answers += [each.answer() for each in waiting]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    for answer, identity in zip(answers, ids, strict=True):
        assert len(identity) == 32
        assert set(answer.json().values()) == {identity, "-"}
        assert sum(f" {identity} " in line for line in said(shared)) == 3


def test_async_views_and_streams_have_it(shared: Server) -> None:
    assert set(shared.get("/id/awaits", headers={"X-Request-ID": "a-1"}).json().values()) == {"a-1"}
    assert shared.get("/id/streams", headers={"X-Request-ID": "s-1"}).body == b"s-1 s-1"


@pytest.mark.parametrize("bad", ["", "a" * 129, "two words", "semi;colon", "ctrl\tx", 'quo"te', "<b>", "a,b"])
def test_what_could_forge_a_line_is_replaced(shared: Server, bad: str) -> None:
    answer = shared.get("/id/awaits", headers={"X-Request-ID": bad})
    assert answer.json()["view"] == answer.headers["x-request-id"] != bad
    assert len(answer.headers["x-request-id"]) == 32


def test_two_fields_are_no_id(shared: Server) -> None:
    with shared.raw() as raw:
        raw.send(b"GET /id/awaits HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: a\r\nX-Request-ID: b\r\n\r\n")
        assert len(raw.answer().headers["x-request-id"]) == 32


def test_a_stranger_names_no_request(shared: Server) -> None:
    """The unix socket is not among those that are believed."""
    path = f"{shared.scratch}/socket"
    from tests.processes.http import Address, request

    answer = request(Address(f"unix:{path}"), "/id/awaits", headers={"X-Request-ID": "stranger"})
    assert answer.json()["view"] == answer.headers["x-request-id"] != "stranger"


def test_what_the_application_says_itself_stands(shared: Server) -> None:
    answer = shared.get("/id/own", headers={"X-Request-ID": "ours"})
    assert answer.headers["x-request-id"] == "mine"
    assert any(line.startswith("said mine ") for line in said(shared))


def test_errors_and_refusals_tell_it_too(shared: Server) -> None:
    mark = shared.log.mark()
    failed = shared.get("/id/fails", headers={"X-Request-ID": "f-1"})
    assert (failed.status, failed.headers["x-request-id"]) == (500, "f-1")
    assert shared.wait_for("request_error", since=mark)["request_id"] == "f-1"
    with shared.raw() as raw:
        raw.send(b"GET /id/awaits HTTP/1.1\r\nX-Request-ID: r-1\r\n\r\n")
        refused = raw.answer()
    assert (refused.status, refused.headers["x-request-id"]) == (400, "r-1")
    [line] = eventually(lambda: access(shared, "r-1"), "the access log has it")
    assert line["status"] == 400


def running(server: Server, path: str) -> list[dict[str, Any]]:
    """The requests of this path, once they are there; one of the test before may just be ending."""

    def look() -> list[dict[str, Any]]:
        return [item for item in ask(server, "requests")["requests"] if item["path"] == path]

    found: list[dict[str, Any]] = eventually(look, f"{path} runs")
    return found


def test_operators_see_and_use_the_same_id(shared: Server) -> None:
    asked = shared.in_background("/id/waits")
    [found] = running(shared, "/id/waits")
    assert len(found["request_id"]) == 32
    mark = shared.log.mark()
    assert ask(shared, "kill", request=found["request_id"])["killed"]
    answer = asked.answer()
    assert (answer.status, answer.headers["x-request-id"]) == (503, found["request_id"])
    assert shared.wait_for("request_killed", since=mark)["request_id"] == found["request_id"]


def test_a_request_whose_worker_is_killed_has_its_id_in_the_access_log(shared: Server) -> None:
    """The arbiter writes the line; the id was made by the worker."""
    asked = shared.in_background("/id/waits?killed")
    [found] = running(shared, "/id/waits?killed")
    mark = shared.log.mark()
    shared.kill(shared.worker())
    assert isinstance(asked.result(), Exception)
    shared.wait_for("worker_ready", since=mark)
    [line] = eventually(lambda: access(shared, found["request_id"]), "the access log has it")
    assert (line["path"], line["query"], line["status"]) == ("/id/waits", "killed", 0)
