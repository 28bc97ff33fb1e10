"""One measurement: one row of a scenario, once."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import proc, uploads, wrk
from tests.benchmarks.cores import Cores
from tests.benchmarks.databases import Surroundings
from tests.benchmarks.launch import ROOT, RunningServer, ServerError, environment, free_port, pinned
from tests.benchmarks.scenarios import BARE, DJANGO, Row, Scenario
from tests.benchmarks.servers import HOST, SERVERS
from tests.benchmarks.summary import Sample


@dataclass(frozen=True, slots=True)
class Bench:
    """What holds for all measurements of a run. Times in seconds."""

    cores: Cores
    duration: float
    warm_up: float
    out: Path


def measure(bench: Bench, scenario: Scenario, row: Row, around: Surroundings, turn: int) -> Sample:
    """Measure, whatever happens: a sample that is not valid says why."""
    log = bench.out / f"{scenario.name}-{''.join(c if c.isalnum() else '_' for c in row.name)}-{turn + 1}.log"
    try:
        if row.server == BARE:
            return _bare(bench, scenario, row, around, log)
        return _server(bench, scenario, row, around, log)
    except (ServerError, wrk.WrkError, OSError) as error:
        return Sample(row.name, problem=str(error), record={"log": str(log)})


def environment_of(scenario: Scenario, row: Row, around: Surroundings) -> dict[str, str]:
    """What the processes of a row find in their environment."""
    raw = {"BENCH_APPLICATION": scenario.app.replace(":", ".")} if scenario.app != DJANGO else {}
    return {**around.env, **raw, **row.env}


class _Watch:
    """The most connections that the database counted while load ran, warm-up included."""

    INTERVAL = 1.0  # seconds; each question is a connection of its own, on the core of the load

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._next = 0.0
        self.most: int | None = None

    def __call__(self) -> None:
        if self._around.server is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + self.INTERVAL
            self.most = max(self.most or 0, self._around.connections())


def _server(bench: Bench, scenario: Scenario, row: Row, around: Surroundings, log: Path) -> Sample:
    port, env = free_port(), environment_of(scenario, row, around)
    server = SERVERS[row.server]
    command = server.command(port=port, app=scenario.app, workers=row.workers, threads=row.threads, options=row.options)
    with RunningServer(pinned(command, bench.cores.server), port=port, env=env, log=log) as running:
        running.wait_ready(scenario.path, scenario.expect)
        load, cpu, most = _load(bench, scenario, running, around)
        running.check(scenario.path, scenario.expect)
        tree = proc.snapshot(running.pid)
        record = {"command": running.command, "env": env, "log": str(log), "load": dataclasses.asdict(load)}
        return Sample(
            row.name,
            rate=load.rate,
            p50=load.p50,
            p99=load.p99,
            cpu=cpu / load.requests if load.requests else 0.0,
            requests=load.requests,
            errors=load.errors,
            pss=sum(one.pss for one in tree),
            workers_pss=tuple(one.pss for one in server.workers(running.pid, tree)),
            db_connections=most,
            problem="" if load.requests else "no request was answered",
            record={**record, "processes": [dataclasses.asdict(one) for one in tree]},
        )


def _load(
    bench: Bench, scenario: Scenario, running: RunningServer, around: Surroundings
) -> tuple[wrk.Load, float, int | None]:
    """Warm up, then load; what wrk measured, the CPU seconds of the tree meanwhile, and connections to the database."""
    url, watch = f"http://{HOST}:{running.port}{scenario.path}", _Watch(around)
    if scenario.uploads:
        uploads.run(url, scenario.connections, 1)
    else:
        wrk.run(url, scenario.connections, bench.warm_up, watch, scenario.script)
    # What the warm-up left in the server's queue has no reader any more, but must not be paid for by the load phase.
    running.check(scenario.path, scenario.expect)
    before = proc.cpu_seconds(proc.tree(running.pid))
    if scenario.uploads:
        load = uploads.run(url, scenario.connections, scenario.uploads)
    else:
        load = wrk.run(url, scenario.connections, bench.duration, watch, scenario.script)
    return load, proc.cpu_seconds(proc.tree(running.pid)) - before, watch.most


def _bare(bench: Bench, scenario: Scenario, row: Row, around: Surroundings, log: Path) -> Sample:
    module = [sys.executable, "-m", "tests.benchmarks.bare", scenario.app, scenario.path, str(bench.duration)]
    command, env = pinned(module, bench.cores.server), environment_of(scenario, row, around)
    with log.open("wb") as problems:
        done = subprocess.run(
            command, cwd=ROOT, env=environment(env), stdout=subprocess.PIPE, stderr=problems, check=False
        )
    if done.returncode:
        raise ServerError(f"the bare handler ended with {done.returncode}\n{log.read_text(errors='replace')[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    body = result.pop("body")
    if scenario.expect not in body:
        raise ServerError(f"the bare handler answered {result['status']}: {body[:200]!r}")
    return Sample(
        row.name,
        rate=result["requests"] / result["seconds"],
        p50=result["p50"],
        p99=result["p99"],
        cpu=result["cpu"] / result["requests"],
        requests=result["requests"],
        errors=result["errors"],
        pss=result["pss"],
        workers_pss=(result["pss"],),
        record={"command": command, "env": env, "log": str(log), "load": result},
    )
