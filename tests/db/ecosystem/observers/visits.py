"""Pages are visited; then each observer is asked what it has seen of them."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from typing import Any

import sentry_sdk
from django.db import connection
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.transport import Transport
from silk.models import Request

from tests.db.ecosystem.side import alone, fetch

# -- set up, as the packages say ------------------------------------------------------------------------------------------

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
envelopes: list[Any] = []


class Kept(Transport):
    """What would be sent."""

    def capture_envelope(self, envelope: Any) -> None:
        envelopes.append(envelope)


def library() -> str:
    """OpenTelemetry's name of the client library."""
    module = type(connection).Database if hasattr(type(connection), "Database") else connection.Database
    return {"psycopg": "psycopg", "psycopg2": "psycopg2", "MySQLdb": "mysqlclient", "pymysql": "pymysql"}[
        module.__name__
    ]


def observe() -> None:
    """Both are told before the first request, as in a project's settings."""
    name = library()
    found = import_module(f"opentelemetry.instrumentation.{name}")
    instrumentor = {
        "psycopg": "PsycopgInstrumentor",
        "psycopg2": "Psycopg2Instrumentor",
        "mysqlclient": "MySQLClientInstrumentor",
        "pymysql": "PyMySQLInstrumentor",
    }[name]
    getattr(found, instrumentor)().instrument(tracer_provider=provider)
    DjangoInstrumentor().instrument(tracer_provider=provider)
    sentry_sdk.init(
        dsn="https://public@sentry.invalid/1",
        integrations=[DjangoIntegration()],
        default_integrations=False,
        traces_sample_rate=1.0,
        transport=Kept,
    )


observe()

# -- visits ---------------------------------------------------------------------------------------------------------------


def pages(number: int) -> Any:
    """Visited by all, for all observers."""
    return re.sub(r"(?s)<(link|script|style|template|div|div ).*", "", fetch(f"/shelf/{number}/"))


def broken_page(number: int) -> Any:
    return fetch(f"/broken/{number}/")[:3]


def verbs(texts: Any) -> Any:
    """How many of each kind of statement."""
    return sorted(Counter(str(text).split()[0].upper() for text in texts).items())


@alone
def recorded_requests(number: int) -> Any:
    found = []
    for request in Request.objects.filter(path__startswith="/shelf/").order_by("path"):
        queries = request.queries.order_by("pk").values_list("query", flat=True)
        found.append([request.path, request.num_sql_queries, verbs(queries)])
    return found


@alone
def shown_queries(number: int) -> Any:
    from debug_toolbar.store import get_store

    store = get_store()
    found = []
    for request in store.request_ids():
        panel = store.panel(request, "SQLPanel")
        texts = [query["raw_sql"] for query in panel.get("queries", ()) if "observers_book" in query["raw_sql"]]
        if texts:
            found.append(verbs(texts))
    return sorted(found)


@alone
def metrics(number: int) -> Any:
    text = fetch("/metrics")
    wanted = ("django_model_inserts_total", "django_http_responses_total_by_status_view_method_total")
    return sorted(line for line in text.splitlines() if line.startswith(wanted) and "metrics" not in line)


@alone
def database_metrics(number: int) -> Any:
    """Of its own engine: which there are. How many, depends on the neighbours and on how often a connection is new."""
    lines = [
        line for line in fetch("/metrics").splitlines() if line.startswith("django_db_") and not line.endswith(" 0.0")
    ]
    names = {line.split("{")[0] for line in lines}
    return sorted(name for name in names if name.endswith("_total"))


def span_tree() -> dict[str, list[str]]:
    """The statements of each request's trace. Those that set a new connection up are not counted: it is not as often new."""
    finished = spans.get_finished_spans()
    requests = {span.context.trace_id: span for span in finished if span.kind.name == "SERVER"}
    trees: dict[str, list[str]] = {}
    for span in finished:
        request = requests.get(span.context.trace_id)
        if request is None or span is request:
            continue
        statement = str(span.attributes.get("db.statement") or span.attributes.get("db.query.text"))
        if "observers_book" in statement:
            trees.setdefault(request.name, []).append(statement)
    return trees


@alone
def traced_requests(number: int) -> Any:
    names = Counter(span.name for span in spans.get_finished_spans() if span.kind.name == "SERVER")
    return sorted((name, count) for name, count in names.items() if "metrics" not in name)


@alone
def traced_queries(number: int) -> Any:
    return sorted((page, verbs(statements)) for page, statements in span_tree().items())


def items(kind: str) -> list[Any]:
    """What has been sent of this kind."""
    found = []
    for envelope in envelopes:
        event = envelope.get_transaction_event() if kind == "transaction" else envelope.get_event()
        if event is not None:
            found.append(event)
    return found


@alone
def sentry_transactions(number: int) -> Any:
    found = []
    for event in items("transaction"):
        url = event.get("request", {}).get("url", "")
        if "/shelf/" in url:
            mine = [span for span in event["spans"] if "observers_book" in (span.get("description") or "")]
            found.append([url, verbs(span["description"] for span in mine)])
    return sorted(found)


@alone
def sentry_errors(number: int) -> Any:
    found = []
    for event in items("event"):
        if "exception" not in event:
            continue
        crumbs = event.get("breadcrumbs", {}).get("values", ())
        queries = [
            crumb["message"]
            for crumb in crumbs
            if crumb.get("category") == "query" and "observers_book" in crumb["message"]
        ]
        found.append([event["exception"]["values"][-1]["value"], verbs(queries)])
    return sorted(found)


_TRACED = f"opentelemetry-instrumentation-{library()}"
VISITS = {
    "django-silk": (pages, broken_page, recorded_requests),
    "django-debug-toolbar": (shown_queries,),
    "django-prometheus": (metrics, database_metrics),
    "opentelemetry-instrumentation-django": (traced_requests,),
    _TRACED: (traced_queries,),
    "sentry-sdk": (sentry_transactions, sentry_errors),
}
