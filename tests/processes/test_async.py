"""Async views, and event loops in ordinary ones: each in its own greenlet, beside all others."""

from __future__ import annotations

from tests.processes.server import Server


def test_async_views_run_side_by_side_with_all_others(server: Server) -> None:
    """Django runs an async view in an event loop; all of a worker's loops share one native thread."""
    server.start(workers=1)
    waiting = [server.in_background("/drill/wait?s=3") for _ in range(8)]
    loops = server.running("/drill/run-loop?s=3", count=8)
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
