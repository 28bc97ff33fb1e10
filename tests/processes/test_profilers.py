"""Sentry's profilers, with the real SDK and a collector of the test: what they sample in workers is sent."""

from __future__ import annotations

import pytest

from tests.processes.events import eventually
from tests.processes.project import SETTINGS, URLS, Project
from tests.processes.server import Server
from tests.processes.test_loading import Collector, collector

__all__ = ["collector"]

INIT = """
import os, sentry_sdk
if "DJWORKER_LAUNCH" in os.environ:
    sentry_sdk.init(
        "http://key@127.0.0.1:{port}/1",
        traces_sample_rate=1.0, _experiments={{"transport_compression_level": 0}}, {options},
    )
"""
START = """
    sentry_sdk.profiler.start_profiler()
"""
RECEIVER = """
import os, sentry_sdk
from djworker.signals import worker_ready

def begin(**kwargs):
    sentry_sdk.profiler.start_profiler()

if "DJWORKER_LAUNCH" in os.environ:
    worker_ready.connect(begin, weak=False)
"""
#: It computes for 0.3 s of processor time, in which the profiler looks 30 times.
COMPUTES = """
def computes_for_the_profiler(request):
    import time
    from django.http import HttpResponse
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    return HttpResponse("computed")

urlpatterns += [path("computes", computes_for_the_profiler)]
"""
MANUAL = "profile_session_sample_rate=1.0"
BY_REQUESTS = {
    "profile": "profiles_sample_rate=1.0",
    "profile_chunk": f'{MANUAL}, profile_lifecycle="trace"',
}


def asked(server: Server, collector: Collector, kind: str) -> bool:
    """Whether a profile of this kind has the view, after one more request."""
    assert server.get("/computes").status == 200
    return has_view(collector, kind)


def has_view(collector: Collector, kind: str) -> bool:
    marks = (f'"type":"{kind}"'.encode(), b'"function":"computes_for_the_profiler"')
    return any(all(mark in body for mark in marks) for body in collector.bodies)


@pytest.mark.parametrize("kind", list(BY_REQUESTS))
def test_profilers_that_requests_start_need_nothing(
    server: Server, project: Project, collector: Collector, kind: str
) -> None:
    project.append(SETTINGS, INIT.format(port=collector.server_port, options=BY_REQUESTS[kind]))
    project.append(URLS, COMPUTES)
    server.start(workers=1, preload_mode="on")
    eventually(lambda: asked(server, collector, kind), "a profile of the view arrives")


def test_a_profiler_that_loading_starts_is_named_and_runs_in_each_worker(
    server: Server, project: Project, collector: Collector
) -> None:
    project.append(SETTINGS, INIT.format(port=collector.server_port, options=MANUAL) + START)
    project.append(URLS, COMPUTES)
    server.start(workers=1)
    (found,) = server.wait_for("not_shared")["found"]
    assert "started by sentry_sdk at " in found
    assert f"{SETTINGS}:" in found
    assert server.get("/computes").status == 200
    server.stop()
    eventually(lambda: has_view(collector, "profile_chunk"), "a worker that ends sends what it has")


def test_a_profiler_that_a_receiver_starts_shares_the_memory(
    server: Server, project: Project, collector: Collector
) -> None:
    project.append(SETTINGS, INIT.format(port=collector.server_port, options=MANUAL))
    project.append(URLS, RECEIVER + COMPUTES)
    server.start(workers=1, preload_mode="on")
    assert server.get("/computes").status == 200
    server.stop()
    eventually(lambda: has_view(collector, "profile_chunk"), "a worker that ends sends what it has")
