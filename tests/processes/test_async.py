"""Async views, and event loops in ordinary ones: each in its own greenlet, beside all others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes.events import eventually
from tests.processes.http import Raw
from tests.processes.project import SETTINGS, URLS, VIEWS
from tests.processes.server import Server

STREAMS = """
import asyncio as _asyncio, pathlib as _pathlib
from django.http import StreamingHttpResponse as _Streaming
from testproject.shop.models import Product as _Product

async def _endless(mark):
    try:
        async with _asyncio.timeout(600):
            yield b"data: begun\\n\\n"
            await _asyncio.Event().wait()
    finally:
        await _asyncio.sleep(0)
        mark.touch()

async def _ticks(count):
    async with _asyncio.timeout(60), _asyncio.TaskGroup():
        for number in range(count):
            await _asyncio.sleep(0)
            yield f"{number}:{await _Product.objects.acount()}\\n"

async def _failing():
    yield b"begun"
    raise LookupError("failed in the stream")

def streams_view(request, kind):
    content = {"endless": lambda: _endless(_pathlib.Path(request.GET["mark"])), "ticks": lambda: _ticks(50),
               "failing": _failing, "flood": lambda: _flood(_pathlib.Path(request.GET["mark"]))}[kind]()
    response = _Streaming(content, content_type="text/event-stream")
    response["Connection"] = "keep-alive"
    return response

async def _flood(mark):
    try:
        while True:
            yield b"x" * 100_000
    finally:
        mark.touch()

async def async_streams_view(request, kind):
    return streams_view(request, kind)
"""


@pytest.fixture
def streams(server: Server) -> Server:
    server.project.append(VIEWS, STREAMS)
    server.project.append(
        URLS,
        "from testproject.shop.views.plain import async_streams_view, streams_view\n"
        "urlpatterns += [path('streams/<str:kind>', streams_view), path('astreams/<str:kind>', async_streams_view)]",
    )
    server.project.append(SETTINGS, "MIDDLEWARE.append('django.middleware.gzip.GZipMiddleware')")
    return server.start(workers=1)


def begun(raw: Raw, path: str) -> Raw:
    raw.get(path)
    received = b""
    while b"data: begun" not in received:
        received += raw.sock.recv(65_536)
    return raw


def test_an_asynchronous_stream_begins_at_once_and_ends_when_its_client_goes(streams: Server) -> None:
    """Django collects such an iterator before it sends anything: one without an end never begins."""
    for number, view in enumerate(("streams", "astreams") * 2):
        mark = Path(streams.scratch / f"ended{number}")
        raw = begun(streams.raw(), f"/{view}/endless?mark={mark}")
        assert streams.get("/streams/ticks").body.count(b"\n") == 50
        assert not mark.exists()
        raw.close()
        eventually(mark.exists, "the iterator's end")
    assert not streams.events("request_failed")


def test_asynchronous_streams_run_side_by_side_and_ask_the_database(streams: Server) -> None:
    answers = [request.answer() for request in [streams.in_background("/astreams/ticks") for _ in range(8)]]
    (body,) = {answer.body for answer in answers}
    assert [line.split(b":")[0] for line in body.split()] == [b"%d" % number for number in range(50)]


def test_a_stream_waits_for_its_reader_and_a_failure_cuts_it(streams: Server) -> None:
    mark = Path(streams.scratch / "flooded")
    raw = streams.raw()
    raw.get(f"/streams/flood?mark={mark}")
    assert raw.sock.recv(1000)
    assert streams.get("/raw").status == 200
    assert not mark.exists()
    raw.close()
    eventually(mark.exists, "the iterator's end")
    raw = streams.raw()
    raw.get("/streams/failing")
    received = raw.rest()
    assert not received.endswith(b"0\r\n\r\n")
    assert "LookupError" in streams.wait_for("request_failed")["traceback"]


def test_async_views_run_side_by_side_with_all_others(server: Server) -> None:
    """Django runs an async view in an event loop; all of a worker's loops share one native thread."""
    server.start(workers=1)
    with server.held("/drill/wait", count=8) as waiting, server.held("/drill/run-loop", count=8) as loops:
        assert [server.get("/drill/count").status for _ in range(8)] == [200] * 8
    assert [request.answer().json() for request in loops] == [{"slept": 1}] * 8
    answers = [request.answer() for request in waiting]
    assert [answer.status for answer in answers] == [200] * 8
    for answer in answers:
        found = answer.json()
        assert (found["slept"], found["mine"]) == ([0, 1, 2], True)


def test_an_async_view_is_warmed_up_and_drained(server: Server) -> None:
    """Nothing of its loop is left in the mold; who waits in it at the end is answered."""
    server.start(workers=1, warm_up=["/drill/wait?s=0"])
    (request,) = server.running("/drill/wait?s=2")
    server.term()
    assert request.answer().status == 200
    assert server.wait() == 0
