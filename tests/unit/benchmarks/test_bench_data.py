"""The list of scenarios is sound, servers get equal terms, and the report shows what is missing."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.benchmarks import plot, report
from tests.benchmarks.__main__ import chosen
from tests.benchmarks.bare import Client, environ, measure
from tests.benchmarks.cores import Cores, choose
from tests.benchmarks.launch import environment, pinned
from tests.benchmarks.measure import Bench
from tests.benchmarks.proc import Process
from tests.benchmarks.rawapp import BODY, application
from tests.benchmarks.scenarios import BARE, HELLO, SCENARIOS, Scenario
from tests.benchmarks.servers import SERVERS
from tests.benchmarks.session import Result
from tests.benchmarks.summary import Sample, judge, usable


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_rows_have_names_of_their_own_and_known_servers(scenario: Scenario) -> None:
    names = [row.name for row in scenario.rows]
    assert len(set(names)) == len(names)
    assert {row.server for row in scenario.rows} <= {*SERVERS, BARE}
    assert {reference for _, reference in scenario.compare} <= set(names)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_full_round_gives_every_target_a_value(scenario: Scenario) -> None:
    full = usable(
        Sample(row.name, rate=1, cpu=1, pss=row.workers, workers_pss=(1,) * row.workers) for row in scenario.rows
    )
    assert all(verdict.value is not None for verdict in judge(scenario.targets, [full]))


@pytest.mark.parametrize("name", SERVERS)
def test_a_command_line_has_no_hole_left(name: str) -> None:
    words = SERVERS[name].command(port=4711, app="package.module:name", workers=3, threads=5, options=("--last",))
    assert words[-1] == "--last"
    assert "4711" in " ".join(words)
    assert not any("{" in word for word in words)


def test_workers_are_the_children_and_the_mold_is_none() -> None:
    def process(pid: int, parent: int, command: str) -> Process:
        return Process(pid, parent, command, 0.0, 0)

    tree = [
        process(1, 0, "djworker: arbiter"),
        process(2, 1, "djworker: mold gen 1"),
        process(3, 1, "djworker: worker 0 gen 1"),
    ]
    assert [one.pid for one in SERVERS["djworker"].workers(1, tree)] == [3]
    assert [one.pid for one in SERVERS["gunicorn gevent"].workers(1, tree)] == [2, 3]
    assert [one.pid for one in SERVERS["pywsgi"].workers(1, tree[:1])] == [1]


@pytest.mark.parametrize(
    "available, wish, cores",
    [
        ({0, 1}, (None, None), Cores(1, 0)),
        ({3}, (None, None), Cores(3, 3)),
        ({0, 1, 2, 3}, (0, None), Cores(0, 1)),
        ({0, 1, 2, 3}, (0, 2), Cores(0, 2)),
    ],
)
def test_server_and_load_get_a_core_each(
    available: set[int], wish: tuple[int | None, int | None], cores: Cores
) -> None:
    assert choose(available, *wish) == cores
    assert cores.shared == (len(available) == 1)


def test_the_callers_environment_reaches_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "7")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--threads=7")
    env = environment({"DATABASE_URL": "sqlite://"})
    assert not {"WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"} & set(env)
    assert env["DATABASE_URL"] == "sqlite://"
    assert pinned(["a", "b"], 1) == ["taskset", "--cpu-list", "1", "a", "b"]


def test_the_bare_client_calls_the_application_as_a_server_does() -> None:
    client = Client(application, environ("/hello?name=x"))
    assert client.get() == BODY
    assert client.status == "200 OK"
    assert client.canned["PATH_INFO"] == "/hello"
    assert client.canned["QUERY_STRING"] == "name=x"
    result = measure(client, 0.01)
    assert result["requests"] > 0
    assert result["errors"] == 0


def test_an_unknown_scenario_is_named() -> None:
    with pytest.raises(SystemExit, match="no such scenario: helo"):
        chosen(["helo"], [])


def test_rows_can_be_chosen_by_their_beginning() -> None:
    (scenario,) = chosen(["hello"], ["gunicorn", "djworker"])
    assert [row.name for row in scenario.rows] == ["djworker", "gunicorn gevent", "gunicorn gthread"]


@pytest.fixture
def result() -> Result:
    good = [
        Sample(row.name, rate=100, cpu=0.001, requests=10, pss=2**20, workers_pss=(2**20,)) for row in HELLO.rows[1:]
    ]
    return Result(HELLO, [[Sample("djworker", problem="ended with 3 <&>"), *good]])


def test_a_row_that_failed_is_shown_loudly_and_its_targets_have_no_value(result: Result) -> None:
    text = report.text([result])
    assert "! djworker: ended with 3" in text
    assert text.count("NO VALUE") == sum("djworker" in target.text for target in HELLO.targets if target.bound)
    assert len({len(line) for line in report.table(report.rows(result)).splitlines()}) == 1


def test_json_and_plot_are_well_formed(result: Result, tmp_path: Path) -> None:
    everything = json.loads(json.dumps(report.as_json([result], Bench(Cores(1, 0), 1.0, 1.0, tmp_path), 1)))
    assert everything["scenarios"][0]["problems"] == ["djworker: ended with 3 <&>"]
    assert everything["versions"]["granian"].startswith("granian ")
    picture = ET.fromstring(plot.svg([result]))
    bars = [element for element in picture.iter() if element.tag.endswith("rect")]
    assert len(bars) == 1 + 2 * len(HELLO.rows)
