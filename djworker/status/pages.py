"""The pages of the status process."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from djworker.ipc.metrics import PROCESS_PSS, Metric
from djworker.process import pss_bytes
from djworker.status import health
from djworker.status.exposition import render
from djworker.status.memory import MetricsMemory, Series
from djworker.status.server import StatusAnswer

__all__ = ["Pages"]

_INDEX: Final = b"/metrics\n/livez\n/readyz (?db=0 leaves databases out)\n"


class Pages:
    """[status] Answers by path."""

    def __init__(self, memory: MetricsMemory) -> None:
        self._memory = memory
        self._kept: dict[str, StatusAnswer] = {}

    def __call__(self, path: str, query: str, fields: Mapping[str, str]) -> StatusAnswer:
        """The answer to one question."""
        match path:
            case "/metrics":
                return self._metrics(fields.get("accept", ""))
            case "/livez":
                return _verdict(health.alive(self._memory.facts()))
            case "/readyz":
                return _verdict(health.ready(self._memory.facts(), databases=_asks_databases(query)))
            case "/":
                return StatusAnswer(HTTPStatus.OK, _INDEX)
        return StatusAnswer(HTTPStatus.NOT_FOUND, b"there are /metrics, /livez and /readyz\n")

    def begin(self) -> None:
        """Many that ask at once cost as much as one; who asks later gets what is there then."""
        self._kept.clear()

    def _metrics(self, accept: str) -> StatusAnswer:
        form = "openmetrics" if "application/openmetrics-text" in accept else "text"
        answer = self._kept.get(form)
        if answer is None:
            series = self._memory.series()
            _tell_of_ourselves(series)
            answer = self._kept[form] = StatusAnswer(HTTPStatus.OK, *render(series, accept))
        return answer


def _tell_of_ourselves(series: dict[Metric, Series]) -> None:
    series[PROCESS_PSS] = {**series.get(PROCESS_PSS, {}), ("status",): [pss_bytes()]}


def _asks_databases(query: str) -> bool:
    return dict(parse_qsl(query)).get("db") != "0"


def _verdict(reason: str) -> StatusAnswer:
    if reason:
        return StatusAnswer(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n".encode())
    return StatusAnswer(HTTPStatus.OK, b"ok\n")
