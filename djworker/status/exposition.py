"""What ``/metrics`` answers: shared memory's numbers in the words of Prometheus, written by ``prometheus_client``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from djworker import __version__
from djworker.ipc.metrics import METRICS, Metric, Type

if TYPE_CHECKING:
    from djworker.status.memory import Series

__all__ = ["render"]


class _Numbers:
    """[status] What ``prometheus_client`` takes for a registry."""

    def __init__(self, series: Mapping[Metric, Series]) -> None:
        self._series = series

    def collect(self) -> Iterator[Any]:
        """Give one family for each metric."""
        info = GaugeMetricFamily("djworker_info", "The version of the status process.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        for metric in METRICS.values():
            if metric.exported:
                yield _family(metric, self._series.get(metric, {}))


def _family(metric: Metric, series: Series) -> Any:
    labels = [*metric.labels, *(["slot"] if metric.by_slot else [])]
    if metric.type is Type.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
        bounds = [*(f"{bound:g}" for bound in metric.bounds), "+Inf"]
        for key, values in series.items():
            histogram.add_metric(key, list(zip(bounds, _cumulated(values[:-1]), strict=True)), values[-1] / metric.unit)
        return histogram
    make = CounterMetricFamily if metric.type is Type.COUNTER else GaugeMetricFamily
    family = make(metric.name, metric.help, labels=labels)
    for key, values in series.items():
        family.add_metric(key, values[0] / metric.unit if metric.unit > 1 else values[0])
    return family


def _cumulated(values: list[int]) -> Iterator[int]:
    total = 0
    for value in values:
        total += value
        yield total


def render(series: Mapping[Metric, Series], accept: str) -> tuple[bytes, str]:
    """The answer's body and its type.

    Args:
        series: the numbers.
        accept: what the client takes, as its field ``Accept`` says.
    """
    encode: Callable[[Any], bytes]
    encode, content_type = exposition.choose_encoder(accept)
    return encode(_Numbers(series)), content_type
