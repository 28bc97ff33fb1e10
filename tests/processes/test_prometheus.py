"""A real Prometheus looks at a real service each second, while everything happens to its workers that can."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import yaml

from djworker.ipc.metrics import METRICS, Type
from tests.docs.blocks import ROOT, Block, runs
from tests.http.test_proxies import program
from tests.ports import free_port
from tests.processes.events import eventually
from tests.processes.http import Address, request
from tests.processes.server import Server
from tests.processes.test_metrics import samples, status_address, total

PAGE = "howto/monitor.md"
ALERTS = ROOT / "docs" / "monitoring" / "alerts.yml"
DASHBOARD = ROOT / "docs" / "monitoring" / "grafana.json"
NAMES = [item.name for item in METRICS.values() if item.exported and item.type is not Type.GAUGE]
COUNTERS = [*NAMES, *(f"{name}_{part}" for name in NAMES for part in ("bucket", "count", "sum"))]


class Prometheus:
    """The program, and its way to answer questions."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The series that an expression gives now."""
        answer = request(self._address, f"/api/v1/query?query={quote(expression)}")
        assert answer.status == 200, (expression, answer.body)
        found = answer.json()["data"]["result"]
        return [(item["metric"], float(item["value"][1])) for item in found]

    def number(self, expression: str) -> float:
        """Of an expression that gives one number; 0 where it gives none."""
        return sum(value for _labels, value in self.ask(expression))


@contextmanager
def prometheus(folder: Path, block: Block, target: Address) -> Iterator[Prometheus]:
    """Prometheus with the page's configuration, each second, and the alerts beside it."""
    config = yaml.safe_load(block.text)
    (job,) = config["scrape_configs"]
    job["static_configs"][0]["targets"] = [f"{target.host}:{target.port}"]
    job["scrape_interval"] = job["scrape_timeout"] = "1s"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "alerts.yml").write_text(ALERTS.read_text())
    subprocess.run(
        [program("promtool"), "check", "config", str(folder / "prometheus.yml")], check=True, capture_output=True
    )
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            made = Prometheus(Address(f"127.0.0.1:{port}"))

            def scraped() -> bool:
                try:
                    return bool(made.ask('up{job="djworker"} == 1'))
                except (OSError, AssertionError):
                    return False

            eventually(scraped, "Prometheus has asked")
            yield made
        finally:
            process.kill()


@runs(PAGE, "job_name: djworker", "topk(10")
def test_no_counter_falls_and_every_request_is_counted(
    server: Server, scratch: Path, blocks: tuple[Block, Block]
) -> None:
    server.start(status_bind="127.0.0.1:0")
    status = status_address(server)
    with prometheus(scratch, blocks[0], status) as found, server.load() as load:
        first = total(samples(server), "djworker_requests_total")
        load.wait_for_answers()
        server.reload()
        killed = server.kill(server.ready()[0])
        server.wait_for("worker_ready", since=killed)
        load.wait_for_answers()
        replaced = server.send(signal.SIGUSR2)
        server.wait_for("arbiter_started", since=replaced)
        recycled = server.kill(server.ready()[0], signal.SIGTERM)
        server.wait_for("worker_gone", since=recycled)
        load.wait_for_answers()
        load.stop()
        last = total(samples(server), "djworker_requests_total")
        eventually(lambda: found.number("sum(djworker_requests_total)") >= last, "Prometheus has the last ones")
        for name in COUNTERS:
            assert found.number(f"sum(resets({name}[30m]))") == 0, name
        counted = found.number("sum(djworker_requests_total)") - first
        assert load.answered - load.clients <= counted <= load.answered + len(load.lost) + load.clients
        assert found.number("sum(djworker_generation)") == 2
        assert found.number('djworker_worker_restarts_total{cause="crash"}') == 1
        for expression in documented(blocks[1]):
            found.ask(expression)  # or it is refused
        assert found.ask("sum by (status) (rate(djworker_requests_total[5m]))")


def documented(block: Block) -> Iterator[str]:
    """All expressions that a user may copy."""
    yield from (line for line in block.text.splitlines() if not line.startswith("#"))
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$instance", ".*").replace("$__rate_interval", "1m")


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_there_are() -> None:
    known = {item.name for item in METRICS.values() if item.exported} | {"djworker_info"}
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "count", "sum")}
    used = set(re.findall(r"djworker_[a-z_]+", ALERTS.read_text() + DASHBOARD.read_text()))
    assert used <= known
    # Each metric is on the dashboard, but for what only an alert or a log is made of.
    shown = set(re.findall(r"djworker_[a-z_]+?(?=_bucket|\{|\[)", DASHBOARD.read_text()))
    missing = {item.name for item in METRICS.values() if item.exported} - shown
    assert missing <= {
        *("djworker_metrics_swallowed_total", "djworker_worker_rss_bytes"),
        *("djworker_pool_size", "djworker_pool_idle", "djworker_pool_acquires_total", "djworker_pool_outages_total"),
        "djworker_arbiter_cpu_seconds_total",
    }


@runs(PAGE, "option httpchk")
def test_haproxy_takes_the_pages_backend(scratch: Path, blocks: tuple[Block]) -> None:
    file = scratch / "haproxy.cfg"
    head = "defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n"
    front = "frontend site\n    bind 127.0.0.1:1\n    default_backend shops\n"
    file.write_text(head + front + blocks[0].text)
    subprocess.run([program("haproxy"), "-c", "-f", str(file)], check=True, capture_output=True)
