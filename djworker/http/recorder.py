"""Counts the requests of a worker in its region of shared memory: by URL, method and status, and how long they took."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from djworker.ipc.metrics import LATENCY, LATENCY_BOUNDS, OTHER, REFUSED, REQUESTS, SWALLOWED, TIMED_OUT
from djworker.ipc.regions import LABEL
from djworker.units import NANOSECONDS

if TYPE_CHECKING:
    from djworker.http.wsgi import Exchange
    from djworker.ipc.regions import Writer

__all__ = ["OTHER", "UNMATCHED", "URL_NAME", "Recorder"]

#: In a request's environ: the name of the URL that Django has found; see ``djworker.mold.patches.url_names``.
URL_NAME: Final = "djworker.url_name"
#: The label of requests whose path no URL has, or that were answered before one was looked for.
UNMATCHED: Final = "(unmatched)"
#: These count in no bound.
ALWAYS: Final = frozenset({UNMATCHED, OTHER})
#: Names. A project has some hundred; what is more has a name for each row, and would fill Prometheus.
MOST_URLS: Final = 500
#: Series of requests. Nine methods and six statuses for each name would be many times as many, and clients choose methods.
MOST_SERIES: Final = 5000
#: A client can send any word.
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_CLASSES: Final = {number: f"{number}xx" for number in "12345"}
_SUM: Final = len(LATENCY_BOUNDS) + 1


class Recorder:
    """[worker] Where the end of a request is counted."""

    __slots__ = ("_known", "_urls", "_words", "_writer")

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._words = writer.words
        self._urls = {labels[0] for labels in writer.find(LATENCY)}
        # By name, method and first digit of the status, as the exchange has them: the places of the counter and of the latency.
        self._known: dict[tuple[str | None, str, str], tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"<Recorder of {len(self._urls)} URLs, {self._writer.count(REQUESTS)} series>"

    def request(self, exchange: Exchange, lasted: float) -> None:
        """Count one that has ended. lasted: seconds."""
        key = (exchange.environ.get(URL_NAME), exchange.method, exchange.status[:1])
        counter, first = self._known.get(key) or self._find(key)
        words = self._words
        words[counter] += 1
        words[first + bisect_left(LATENCY_BOUNDS, lasted)] += 1
        words[first + _SUM] += int(lasted * NANOSECONDS)

    def refused(self, exchange: Exchange, lasted: float) -> None:
        """Count one that the server has answered itself, without the application."""
        self._writer.add(REFUSED, 1, (exchange.status[:3],))
        self.request(exchange, lasted)

    def timed_out(self, exchange: Exchange) -> None:
        """Count one that is ended at its deadline; it is counted as a request when it has ended."""
        self._writer.add(TIMED_OUT, 1, (self._url(exchange.environ.get(URL_NAME, UNMATCHED)),))

    def _find(self, key: tuple[str | None, str, str]) -> tuple[int, int]:
        """Look for the series, or make it; what is within the bounds is known from then on."""
        name, method, digit = key
        url = self._url(UNMATCHED if name is None else name)
        labels = (url, method if method in METHODS else "other", _CLASSES.get(digit, "none"))
        if url == OTHER:
            self._writer.add(SWALLOWED)
        place = self._series(labels), self._writer.word(LATENCY, (url,))
        if url != OTHER and method in METHODS:
            self._known[key] = place
        return place

    def _url(self, name: str) -> str:
        name = name[:LABEL]
        if name not in self._urls:
            if len(self._urls) >= MOST_URLS and name not in ALWAYS:
                return OTHER
            self._urls.add(name)
        return name

    def _series(self, labels: tuple[str, str, str]) -> int:
        writer = self._writer
        if writer.count(REQUESTS) >= MOST_SERIES and not writer.has(REQUESTS, labels):
            labels = (OTHER, *labels[1:])
            writer.add(SWALLOWED)
        return writer.word(REQUESTS, labels)
