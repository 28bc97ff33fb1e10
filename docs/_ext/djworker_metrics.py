# ruff: noqa: INP001 - Sphinx finds extensions by folder
"""Sphinx directive that writes the reference of metrics from their table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from djworker_generated import Generated

from djworker.ipc import metrics

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class Metrics(Generated):
    """Each metric, what kind it is, its labels, what it tells."""

    sources = (metrics.__file__,)

    def lines(self) -> Iterator[str]:
        """Return a table."""
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 35 10 20 35", "")
        yield from _row("metric", "type", "labels", "what it tells")
        for metric in metrics.METRICS.values():
            if metric.exported:
                labels = [*metric.labels, *(["slot"] if metric.by_slot else [])]
                yield from _row(f"``{metric.name}``", metric.type.value, ", ".join(labels), metric.help)
        yield ""


def _row(*cells: str) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {'* -' if number == 0 else '  -'} {cell}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("djworker-metrics", Metrics)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
