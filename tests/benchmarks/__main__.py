"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import plot, report, session
from tests.benchmarks.cores import choose, pin_this_process
from tests.benchmarks.launch import ROOT
from tests.benchmarks.measure import Bench
from tests.benchmarks.scenarios import SCENARIOS, Scenario

QUICK = {"rounds": 1, "duration": 2.0}
NORMAL = {"rounds": 5, "duration": 6.0}


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    names = ", ".join(scenario.name for scenario in SCENARIOS)
    options = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Compare djworker with other servers, as ratios."
    )
    options.add_argument("--rounds", type=int, help=f"how often each row is measured (default {NORMAL['rounds']})")
    options.add_argument(
        "--duration", type=float, help=f"seconds of load for each measurement (default {NORMAL['duration']:g})"
    )
    options.add_argument("--only", action="append", default=[], metavar="SCENARIO", help=f"repeatable; all of: {names}")
    options.add_argument(
        "--rows", action="append", default=[], metavar="TEXT", help="only rows whose name begins so; repeatable"
    )
    options.add_argument("--clients", type=int, help="connections of the load (default: each scenario's own)")
    options.add_argument(
        "--quick", action="store_true", help="one short round, to see that everything runs; its numbers mean little"
    )
    options.add_argument(
        "--out", type=Path, help="directory for logs, JSON and plot (default: build/benchmarks/ and the time)"
    )
    options.add_argument("--server-core", type=int, help="core for the server (default: the last one)")
    options.add_argument("--load-core", type=int, help="core for everything else (default: the first one)")
    return options


def chosen(only: Sequence[str], rows: Sequence[str]) -> list[Scenario]:
    """The scenarios and rows that were asked for. Raises SystemExit at a name that there is not."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    if unknown := [name for name in only if name not in known]:
        raise SystemExit(f"no such scenario: {', '.join(unknown)}; there are: {', '.join(known)}")
    return [_with_rows(known[name], rows) for name in (only or known)]


def _with_rows(scenario: Scenario, beginnings: Sequence[str]) -> Scenario:
    kept = tuple(row for row in scenario.rows if not beginnings or row.name.startswith(tuple(beginnings)))
    return replace(scenario, rows=kept)


def _for_clients(scenario: Scenario, clients: int | None) -> Scenario:
    """Targets are for the scenario's own load."""
    return scenario if clients is None else replace(scenario, connections=clients, targets=())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 when a measurement is not valid."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the servers are stopped too
    scenarios = [_for_clients(scenario, options.clients) for scenario in chosen(options.only, options.rows)]
    usual = QUICK if options.quick else NORMAL
    rounds = options.rounds or int(usual["rounds"])
    bench = prepare(options, options.duration or usual["duration"])
    results = [session.run(bench, scenario, rounds, progress) for scenario in scenarios if scenario.rows]
    print(report.text(results))
    write(bench.out, results, report.as_json(results, bench, rounds))
    return 1 if any(result.problems for result in results) else 0


def prepare(options: argparse.Namespace, duration: float) -> Bench:
    """Pin this process and make the directory for the output."""
    cores = choose(os.sched_getaffinity(0), options.server_core, options.load_core)
    if cores.shared:
        progress("WARNING: one core for server and load: only CPU per request means something here")
    pin_this_process(cores.load)
    out: Path = options.out or ROOT / "build" / "benchmarks" / time.strftime("%Y-%m-%d-%H%M%S")
    out.mkdir(parents=True, exist_ok=True)
    return Bench(cores, duration, warm_up=min(2.0, duration), out=out.resolve())


def write(out: Path, results: Sequence[session.Result], everything: dict[str, object]) -> None:
    """Keep the results beside the logs."""
    (out / "results.json").write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n")
    (out / "results.svg").write_text(plot.svg(results))
    print(f"\nwritten: {out}/results.json, {out}/results.svg, and the servers' logs")


def progress(line: str) -> None:
    """Tell on stderr what goes on."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
