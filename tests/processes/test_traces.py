"""Sentry and OpenTelemetry, with their real SDKs and a collector of the test: contexts of requests at once do not mix."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final, NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.db.fixtures import mariadb, postgres
from tests.db.servers import DatabaseServer
from tests.docs.blocks import Block, runs
from tests.processes.events import eventually
from tests.processes.project import SETTINGS, URLS, Project
from tests.processes.server import Server
from tests.processes.test_deadlines import LIBRARIES

__all__ = ["mariadb", "postgres"]

#: Each request waits in its middle, so that all of them are under way at once in one worker.
VIEWS = """
import gevent, sentry_sdk
from django.db import connection
from django.http import HttpResponse
from opentelemetry import trace

def traced(request):
    number = request.GET["n"]
    sentry_sdk.set_tag("number", number)
    with trace.get_tracer("shop").start_as_current_span("inner") as span:
        gevent.sleep(0.1)
        with connection.cursor() as cursor:
            pause = "pg_sleep" if connection.vendor == "postgresql" else "SLEEP"
            cursor.execute(f"SELECT {pause}(0.05), {int(number)}")
        gevent.sleep(0.1)
        assert trace.get_current_span() is span
        span.set_attribute("number", number)
        sentry_sdk.capture_message(f"message {number}")
    return HttpResponse(number)

def fails(request):
    sentry_sdk.set_tag("number", request.GET["n"])
    gevent.sleep(0.05)
    raise ValueError(request.GET["n"])

urlpatterns += [path("traced", traced), path("fails", fails)]
"""
COUNT = 12


class Traced(NamedTuple):
    """A client library behind its instrumentation; database: one that its server has."""

    library: str
    instrumentor: str
    database: str
    pause: str


#: The first one is in the documentation's block.
TRACED: Final = (
    Traced("psycopg", "PsycopgInstrumentor", "postgres", "pg_sleep"),
    Traced("psycopg2", "Psycopg2Instrumentor", "postgres", "pg_sleep"),
    Traced("mysqlclient", "MySQLClientInstrumentor", "mysql", "SLEEP"),
)


class Collector(ThreadingHTTPServer):
    """Takes envelopes of Sentry's, and spans by OTLP over HTTP."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.spans: list[Any] = []
        self.events: list[dict[str, Any]] = []

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        else:
            lines = body.split(b"\n")
            self.events += [
                item for line in lines if line.startswith(b'{"') and "event_id" in (item := json.loads(line))
            ]

    def messages(self) -> dict[str, dict[str, Any]]:
        """Sentry's events by what they say."""
        return {text: event for event in self.events if (text := _text(event))}


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.take(self.path, body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def _text(event: dict[str, Any]) -> str:
    if "exception" in event:
        return f"error {event['exception']['values'][-1]['value']}"
    return str(event.get("message") or event.get("logentry", {}).get("message") or "")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        thread = Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "preload, traced",
    [("on", TRACED[0]), ("off", TRACED[0]), *(("on", other) for other in TRACED[1:])],
    ids=lambda value: getattr(value, "library", value),
)
@runs("howto/errors-and-traces.md", "%(request_id)s", "sentry_sdk.init", "BatchSpanProcessor(OTLPSpanExporter())")
def test_contexts_of_requests_at_once_do_not_mix(
    server: Server,
    project: Project,
    collector: Collector,
    request: pytest.FixtureRequest,
    preload: str,
    traced: Traced,
    blocks: tuple[Block, ...],
) -> None:
    kind, lines = LIBRARIES[traced.library]
    database: DatabaseServer = request.getfixturevalue(kind)
    project.append(SETTINGS, lines)
    for block in blocks:
        project.append(SETTINGS, _fit(block.text, traced))
    project.append(URLS, VIEWS)
    server.tracebacks_expected = True
    server.start(
        workers=1, probe="off", preload_mode=preload, environ=_environ(collector, database.url(traced.database))
    )
    ids = {number: f"{preload}-{number}" for number in map(str, range(COUNT))}
    asked = [server.in_background(f"/traced?n={n}", headers={"X-Request-ID": name}) for n, name in ids.items()]
    failed = [server.in_background(f"/fails?n={n}") for n in ids]
    assert [each.answer().body.decode() for each in asked] == list(ids)
    assert {each.answer().status for each in failed} == {500}
    eventually(lambda: len(_inner(collector)) == COUNT and len(_servers(collector)) == 2 * COUNT, "spans are exported")
    wanted = {f"{kind} {n}" for n in ids for kind in ("message", "error")}
    eventually(lambda: wanted <= set(collector.messages()), "Sentry's events arrive")
    for number, name in ids.items():
        _check_spans(collector, number, f"SELECT {traced.pause}(0.05), {number}")
        _check_events(collector, number, name)


def _fit(text: str, traced: Traced) -> str:
    """The documentation's settings, with another client library's instrumentation."""
    text = text.replace("traces_sample_rate=0.1", "traces_sample_rate=1.0")
    text = text.replace(TRACED[0].instrumentor, traced.instrumentor)
    return text.replace(f"instrumentation.{TRACED[0].library} ", f"instrumentation.{traced.library} ")


def _environ(collector: Collector, database: str) -> dict[str, str]:
    base = f"127.0.0.1:{collector.server_port}"
    return {
        "SENTRY_DSN": f"http://key@{base}/1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{base}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "DATABASE_URL": database,
    }


def _attributes(span: Any) -> dict[str, str]:
    return {item.key: item.value.string_value for item in span.attributes}


def _inner(collector: Collector) -> dict[str, Any]:
    return {_attributes(span)["number"]: span for span in collector.spans if span.name == "inner"}


def _servers(collector: Collector) -> list[Any]:
    """Those of requests. What the pool does by itself (to set a connection up) has traces of its own."""
    return [span for span in collector.spans if span.name.startswith("GET ")]


def _check_spans(collector: Collector, number: str, sql: str) -> None:
    """One trace: the request's span, within it the view's own, and within that the statement's."""
    inner = _inner(collector)[number]
    trace = {span.name: span for span in collector.spans if span.trace_id == inner.trace_id}
    assert set(trace) == {"GET traced", "inner", "SELECT"}
    root, statement = trace["GET traced"], trace["SELECT"]
    assert (root.parent_span_id, inner.parent_span_id, statement.parent_span_id) == (b"", root.span_id, inner.span_id)
    assert _attributes(root)["http.target"] == f"/traced?n={number}"
    assert _attributes(statement)["db.statement"] == sql


def _check_events(collector: Collector, number: str, name: str) -> None:
    messages: Callable[[], dict[str, dict[str, Any]]] = collector.messages
    message, error = messages()[f"message {number}"], messages()[f"error {number}"]
    for event, path in ((message, "/traced"), (error, "/fails")):
        assert event["tags"]["number"] == number
        assert (event["transaction"], event["request"]["query_string"]) == (path, f"n={number}")
    assert message["tags"]["request_id"] == name
    assert len(error["tags"]["request_id"]) == 32
    assert message["contexts"]["trace"]["trace_id"] != error["contexts"]["trace"]["trace_id"]
