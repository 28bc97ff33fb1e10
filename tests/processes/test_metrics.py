"""The status process: what ``/metrics`` counts while workers come and go, and that nothing that happens to it is felt."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.processes import procfs
from tests.processes.events import eventually
from tests.processes.http import Address, request
from tests.processes.project import URLS
from tests.processes.server import Server
from tests.processes.test_listening import open_to_everybody

#: A name, and labels in the order of their names.
Key = tuple[str, tuple[tuple[str, str], ...]]
ON = {"status_bind": "127.0.0.1:0"}


def status_address(server: Server) -> Address:
    """Where the status process listens."""
    return Address(server.wait_for("status_listening")["address"])


def status_pid(server: Server) -> int | None:
    """The status process; None while there is none."""
    titled = [pid for pid in procfs.children(server.pid) if procfs.title(pid).startswith("djworker: status")]
    return titled[0] if titled else None


def samples(server: Server) -> dict[Key, float]:
    """All that ``/metrics`` says now."""
    answer = request(status_address(server), "/metrics")
    assert answer.status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(answer.body.decode())
        for sample in family.samples
    }


def total(told: dict[Key, float], name: str, **labels: str) -> float:
    """The sum of all series with these labels."""
    wanted = set(labels.items())
    return sum(value for (of, has), value in told.items() if of == name and wanted <= set(has))


def answered(server: Server) -> float:
    """Requests that were answered well."""
    return total(samples(server), "djworker_requests_total", status="2xx")


@contextmanager
def scraped(server: Server) -> Iterator[list[Key]]:
    """Ask again and again; the list fills with counters that have gone back."""
    fallen: list[Key] = []
    done = threading.Event()

    def scrape() -> None:
        last: dict[Key, float] = {}
        while not done.wait(0.05):
            now = samples(server)
            for key, value in last.items():
                counts = key[0].endswith(("_total", "_bucket", "_count", "_sum"))
                if counts and now.get(key, 0.0) < value:
                    fallen.append(key)
            last = now

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield fallen
    finally:
        done.set()
        thread.join(20)


def test_no_counter_falls_whatever_happens_to_workers(server: Server) -> None:
    """Reload, recycling, kill -9 and USR2, under load; and every request is counted."""
    server.start(**ON)
    first = samples(server)
    with scraped(server) as fallen, server.load() as load:
        load.wait_for_answers()
        server.reload()
        killed = server.kill(server.ready()[0])
        server.wait_for("worker_ready", since=killed)
        load.wait_for_answers()
        replaced = server.send(signal.SIGUSR2)
        server.wait_for("arbiter_started", since=replaced)
        load.wait_for_answers()
        recycled = server.kill(server.ready()[0], signal.SIGTERM)
        server.wait_for("worker_retired", since=recycled)
        server.wait_for("worker_gone", since=recycled)
        load.wait_for_answers()
        load.stop()
        told = samples(server)
    assert fallen == []
    assert len(load.lost) <= load.clients  # what was in flight at the kill
    counted = total(told, "djworker_requests_total") - total(first, "djworker_requests_total")
    # A worker that is killed may have answered and not yet counted, or counted and not yet answered.
    assert load.answered - load.clients <= counted <= load.answered + len(load.lost)
    assert total(told, "djworker_request_duration_seconds_count") >= counted
    assert total(told, "djworker_worker_restarts_total", cause="crash") == 1
    assert total(told, "djworker_worker_restarts_total", cause="SIGTERM") == 1
    assert total(told, "djworker_worker_restarts_total", cause="reload") == 2
    assert total(told, "djworker_reloads_total", result="done") == 1
    assert total(told, "djworker_generation") == 2
    assert total(told, "djworker_workers", state="ready") == 2
    server.expected.add("connection_failed")


def test_urls_have_their_names_and_what_is_unknown_has_one(server: Server) -> None:
    server.start(workers=1, **ON)
    for path in ("/debug/pid", "/debug/pid?a=1", "/nowhere/1", "/nowhere/2", "/nowhere/3"):
        server.get(path)
    server.get("/debug/pid", method="PROPFIND")
    raw = server.raw()
    raw.send(b"GET / HTTP/1.1\r\nHost: a\r\nbad field\r\n\r\n")
    assert raw.answer().status == 400
    told = eventually(lambda: total(counts := samples(server), "djworker_requests_total") >= 7 and counts, "counted")
    name = "djworker_requests_total"
    (url,) = {dict(labels)["url"] for of, labels in told if of == name and "pid" in dict(labels)["url"]}
    assert total(told, name, url=url, method="GET", status="2xx") == 2
    assert total(told, name, url=url, method="other") == 1
    assert total(told, name, url="(unmatched)", method="GET", status="4xx") == 4
    assert total(told, "djworker_requests_refused_total", status="400") == 1
    assert total(told, "djworker_request_duration_seconds_count", url="(unmatched)") == 4


def test_gauges_tell_what_goes_on(server: Server) -> None:
    server.start(workers=1, **ON)
    slow = server.running("/debug/sleep?s=2", count=3)
    eventually(lambda: total(samples(server), "djworker_requests_running") == 3, "three run")
    told = samples(server)
    assert total(told, "djworker_connections", state="running") == 3
    assert total(told, "djworker_workers", state="ready") == total(told, "djworker_workers_wanted") == 1
    for metric in ("worker_pss_bytes", "worker_rss_bytes"):
        assert total(told, f"djworker_{metric}", slot="0") > 10 << 20

    def work_is_told() -> bool:
        now = samples(server)
        cpu = (
            total(now, "djworker_worker_cpu_seconds_total", slot="0"),
            total(now, "djworker_arbiter_cpu_seconds_total"),
        )
        return all(0 < seconds < 600 for seconds in cpu)

    eventually(work_is_told, "the processor time of each")
    assert 0 < total(told, "djworker_process_pss_bytes", process="status") <= 25 << 20
    assert {"arbiter", "mold", "status"} == {
        dict(labels)["process"] for name, labels in told if name == "djworker_process_pss_bytes"
    }
    for item in slow:
        assert item.answer().status == 200
    eventually(lambda: total(samples(server), "djworker_requests_running") == 0, "none runs")


#: A view that stops its hub.
STANDS = """
from gevent.monkey import get_original
from django.http import HttpResponse

def stands(request):
    get_original("time", "sleep")(1.5)
    return HttpResponse("done")

urlpatterns += [path("stands", stands)]
"""


def test_a_stopped_worker_takes_readiness_away_and_a_blocked_hub_is_a_stall(server: Server) -> None:
    """What a worker was stopped for is no stall of its own."""
    stalls, lag = "djworker_hub_stalls_total", "djworker_hub_lag_seconds"
    server.project.append(URLS, STANDS)
    server.start(workers=1, **ON)
    status = status_address(server)
    eventually(lambda: request(status, "/readyz").status == 200, "it accepts")
    stalls_before = total(samples(server), stalls)
    with server.suspended(server.worker()):
        eventually(lambda: request(status, "/readyz").status == 503, "no worker accepts")
        assert request(status, "/livez").status == 200
    eventually(lambda: request(status, "/readyz").status == 200, "it accepts again")
    before = samples(server)
    assert total(before, stalls) == stalls_before
    assert server.get("/stands").status == 200
    stalled = "djworker_hub_stalled_seconds_total"  # counted at the end of the stall, its number before
    told = eventually(lambda: total(now := samples(server), stalled, slot="0") > 1 and now, "a stall")
    assert total(told, stalls) > stalls_before
    eventually(lambda: total(samples(server), f"{lag}_sum") > total(before, f"{lag}_sum") + 1, "the beat was late")
    assert total(told, f"{lag}_bucket", le="1.0") < total(told, f"{lag}_count")
    with server.suspended(server.pid):
        eventually(lambda: request(status, "/livez").status == 503, "the arbiter does not turn")
    eventually(lambda: request(status, "/livez").status == 200, "it turns again")


def test_a_status_process_that_is_killed_comes_back_and_the_service_does_not_notice(server: Server) -> None:
    server.start(**ON)
    with server.load() as load:
        load.wait_for_answers()
        before = total(samples(server), "djworker_requests_total")
        for _ in range(2):
            pid = eventually(lambda: status_pid(server), "the status process runs")
            mark = server.kill(pid)
            server.wait_for("status_gone", since=mark)
            # The socket is the arbiter's: who asks meanwhile waits, and is not refused.
            assert request(status_address(server), "/livez").status == 200
        load.wait_for_answers()
        assert total(samples(server), "djworker_requests_total") > before
        load.stop()
    load.assert_nothing_lost()
    assert len(server.events("worker_gone")) == 0


def test_a_flooded_status_port_is_not_felt(server: Server) -> None:
    """Silent clients, half a line, garbage, and questions without end."""
    server.start(**ON)
    status = status_address(server)
    done = threading.Event()
    sent = [b"", b"GET /met", b"\x16\x03\x01\x02\x00" * 100, b"GET /metrics HTTP/1.1\r\n\r\n", b"G" * 100_000]

    def flood(data: bytes) -> None:
        held: list[socket.socket] = []
        while not done.wait(0.001):
            try:
                held.append(sock := status.connect(5))
                sock.sendall(data)
            except OSError:
                pass
            for old in held[:-100]:
                old.close()
            del held[:-100]
        for old in held:
            old.close()

    threads = [threading.Thread(target=flood, args=(data,), daemon=True) for data in sent]
    with server.load() as load:
        for thread in threads:
            thread.start()
        load.wait_for_answers(50)
        for path in ("/livez", "/readyz", "/metrics"):
            assert request(status, path).status == 200
        load.wait_for_answers(50)
        done.set()
        load.stop()
    for thread in threads:
        thread.join(10)
    load.assert_nothing_lost()
    assert server.events("status_gone") == []
    assert len(procfs.descriptors(eventually(lambda: status_pid(server), "it runs"))) < 200


def test_a_worker_has_its_own_region_only_and_the_status_process_writes_none(server: Server) -> None:
    server.start(**ON)
    samples(server)
    for slot in (0, 1):
        maps = (procfs.PROC / str(server.worker(slot)) / "maps").read_text()
        assert {line.split("memfd:")[1].split()[0] for line in maps.splitlines() if "memfd:djworker-slot" in line} == {
            f"djworker-slot-{slot}"
        }
        held = procfs.descriptors(server.worker(slot)).values()
        assert {name.split("djworker-")[1].split()[0] for name in held if "memfd:djworker-slot" in name} <= {
            f"slot-{slot}"
        }
    pid = eventually(lambda: status_pid(server), "it runs")
    mapped = [line for line in (procfs.PROC / str(pid) / "maps").read_text().splitlines() if "memfd:djworker-" in line]
    assert len(mapped) == 4
    assert all(line.split()[1].startswith("r--") for line in mapped)
    mold = procfs.descriptors(server.mold()).values()
    assert not [name for name in mold if "djworker-slot" in name or "djworker-board" in name]


def test_without_status_bind_there_is_nothing_of_it(server: Server) -> None:
    server.start(workers=1)
    server.get("/debug/pid")
    assert status_pid(server) is None
    assert server.events("status_listening") == []
    assert not [name for name in procfs.descriptors(server.pid).values() if "djworker-slot" in name]


@pytest.mark.parametrize("taken", ["127.0.0.1:{port}", "unix:{folder}/none/s.sock"])
def test_an_address_that_cannot_be_had_is_told_at_once(server: Server, taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server.launch(status_bind=taken.format(port=port, folder=server.scratch))
        assert server.wait() == 2
    told = server.wait_for("config_error", id="E011", setting="status_bind")
    assert "cannot listen on" in told["message"]


def test_a_unix_socket_tells_the_status_too(make_server: Callable[[], Server]) -> None:
    server = make_server()
    path = server.scratch / "status.sock"
    server.leaves_nothing_at.append(path)
    server.start(workers=1, status_bind=f"unix:{path}")
    eventually(lambda: request(Address(f"unix:{path}"), "/readyz").status == 200, "it is ready")


def test_a_child_of_a_request_counts_nothing(server: Server) -> None:
    """It has a copy of everything, and must not write into its parent's region."""
    server.start(workers=1, **ON)
    assert server.get("/drill/orphan").status == 200
    told = eventually(lambda: total(now := samples(server), "djworker_requests_total") and now, "counted")
    assert total(told, "djworker_requests_total") == 1


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"preload_mode": "off"}, id="alone"),
        pytest.param(
            {"user": "nobody"},
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else"),
            id="user",
        ),
    ],
)
def test_every_kind_of_worker_counts(server: Server, scratch: Path, options: dict[str, str]) -> None:
    """A worker that loads the project by itself gets its region otherwise; one of another user cannot open anything."""
    prefix = open_to_everybody(scratch) if "user" in options else ()
    server.start(workers=1, prefix=prefix, **ON, **options)
    for _ in range(3):
        assert server.get("/raw").status == 200
    eventually(lambda: answered(server) == 3, "all are counted")  # an answer is counted when it has been sent
    killed = server.kill(server.worker())
    server.wait_for("worker_ready", since=killed)
    assert server.get("/raw").status == 200
    eventually(lambda: answered(server) == 4, "the new worker counts on")
    status = eventually(lambda: status_pid(server), "it runs")
    assert procfs.status(status)["Uid"] == procfs.status(server.worker())["Uid"]


#: A view for a request whose body does not come.
UPLOADS = """
from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt

@csrf_exempt
def uploads(request):
    return HttpResponse(request.body)

urlpatterns += [path("uploads", uploads, name="shop-uploads")]
"""


def test_requests_over_their_time_are_counted_under_their_urls(server: Server) -> None:
    """Also one that waits for its body, and has not come to its view yet."""
    server.project.append(URLS, UPLOADS)
    server.start(workers=1, request_timeout=1, **ON)
    raw = server.raw()
    raw.send(b"POST /uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    assert raw.answer().status == 504
    assert server.get("/debug/sleep?s=60").status == 504
    ended, counted = "djworker_requests_timed_out_total", "djworker_requests_total"

    def urls(name: str) -> set[str]:
        return {dict(labels)["url"] for (of, labels), value in samples(server).items() if of == name and value}

    eventually(lambda: len(urls(counted)) == 2, "both are counted")
    assert "shop-uploads" in urls(ended) == urls(counted)
    assert "(unmatched)" not in urls(ended)


def test_requests_that_wait_for_their_turn_are_told(server: Server) -> None:
    server.start(workers=1, worker_connections=1, probe="off", **ON)
    with server.held("/drill/run-loop"):
        waiting = [server.in_background("/debug/pid") for _ in range(2)]
        eventually(lambda: total(samples(server), "djworker_requests_queued", slot="0") == 2, "two wait")
        assert total(samples(server), "djworker_requests_running") == 1
    assert [each.answer().status for each in waiting] == [200, 200]
    eventually(lambda: total(samples(server), "djworker_requests_queued") == 0, "none waits")
