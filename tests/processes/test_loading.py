"""What projects start while they load, with the real packages: they boot, and the workers have it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from uuid import uuid4

import grpc
import pytest

from tests.agents.collector import Collector, listening
from tests.docs.blocks import Block, runs
from tests.processes.events import eventually
from tests.processes.http import Address, request
from tests.processes.project import ROOT, SETTINGS, URLS, Project
from tests.processes.server import MANAGE, MODULE, Server, command, environment
from tests.processes.test_listening import open_to_everybody

#: As most projects start it.
PROGRAM = MANAGE
#: Every one has a host looked up by name, in a thread of gevent's.
LOOK_UPS = """
import logging.handlers
import os
import socket
import redis
import requests
from redis.backoff import NoBackoff
from redis.retry import Retry

socket.getaddrinfo("localhost", 80)
logging.getLogger("elsewhere").addHandler(logging.handlers.SysLogHandler(("localhost", 9)))
for ask in (redis.Redis("localhost", 1, retry=Retry(NoBackoff(), 0)).ping, lambda: requests.get("http://localhost:1/")):
    try:
        ask()
    except (redis.exceptions.ConnectionError, requests.exceptions.ConnectionError):
        pass
    else:
        raise AssertionError
"""
ALL_STAGES = (SETTINGS, URLS, "testproject/wsgi.py", "testproject/shop/apps.py")


def test_names_may_be_looked_up_in_every_stage(server: Server, project: Project) -> None:
    for name in ALL_STAGES:
        project.append(name, LOOK_UPS)
    project.settings(WARM_UP=["/"])
    server.start(workers=1)
    assert server.get("/").status == 200
    mark = server.reload()
    assert not server.events("mold_failed", mark)
    assert server.get("/").status == 200


@pytest.fixture
def collector() -> Iterator[Collector]:
    """It listens."""
    made = Collector()
    with listening(made):
        yield made


class Keeper(ThreadingTCPServer):
    """Stands in for a Redis and for a service that keeps connections open, by the first byte that it is sent."""

    daemon_threads = allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Keep)


class _Keep(StreamRequestHandler):
    def handle(self) -> None:
        while line := self.rfile.readline():
            if line.startswith(b"*"):
                words = [self._word() for _ in range(int(line[1:]))]
                self.wfile.write(b"+PONG\r\n" if words[0].upper() == b"PING" else b"+OK\r\n")
            elif line == b"\r\n":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def _word(self) -> bytes:
        size = int(self.rfile.readline()[1:])
        return self.rfile.read(size + 2)[:-2]


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """It listens."""
    with Keeper() as made:
        Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


KEPT = """
import redis, requests, urllib3
from django.http import HttpResponse
_cache = redis.Redis("127.0.0.1", {port}, protocol=2)
_session = requests.Session()
_pool = urllib3.PoolManager()

def kept(request=None):
    page = "http://127.0.0.1:{port}/"
    said = [_cache.ping(), _session.get(page).text, _pool.request("GET", page).data.decode()]
    return HttpResponse(str(said))

kept()
urlpatterns += [path("kept", kept)]
"""


def test_connections_that_a_library_opens_anew_are_no_matter(server: Server, project: Project, keeper: Keeper) -> None:
    """The first request of each worker has its answer, and the log is silent."""
    project.append(URLS, KEPT.format(port=keeper.server_address[1]))
    server.start(workers=2, probe="/kept")
    for _ in range(2):
        pids = set()
        while len(pids) < 2:
            assert server.get("/kept").body == b"[True, 'ok', 'ok']"
            pids.add(server.get("/debug/pid").json()["pid"])
        server.reload()
    assert not server.events("connection_left_open")
    assert not server.events("probe_failed")


SENTRY = """
import logging
import sentry_sdk
sentry_sdk.init(
    "http://key@localhost:{port}/1",
    enable_logs=True, traces_sample_rate=1.0, _experiments={{"transport_compression_level": 0}},
)
logging.getLogger("shop").error("while loading {mark}")
"""
REPORT = """
def reports(request):
    import logging
    logging.getLogger("shop").error(request.GET["text"])
    from django.http import HttpResponse
    return HttpResponse("reported")

urlpatterns += [path("reports", reports)]
"""


def test_sentry_reports_what_loading_logs_once_and_what_requests_log(
    server: Server, project: Project, collector: Collector
) -> None:
    mark = uuid4().hex
    project.write("testproject/reporting.py", SENTRY.format(port=collector.server_port, mark=mark))
    project.append(SETTINGS, "import os\nif 'DJWORKER_LAUNCH' in os.environ:\n    from testproject import reporting")
    project.append(URLS, f'import logging; logging.getLogger("shop").error("in urls"){REPORT}')
    server.start()
    assert server.wait_for("threads_ended")["libraries"] == ["Sentry"]
    assert server.get(f"/reports?text=first{mark}").status == 200
    eventually(lambda: collector.has(f"first{mark}"), "the event of a request arrives")
    assert collector.count(f'"logentry":{{"message":"while loading {mark}"') == 1
    again = server.reload()
    assert not server.events("mold_failed", again)
    assert server.get(f"/reports?text=second{mark}").status == 200
    eventually(lambda: collector.has(f"second{mark}"), "the event of a request to new code arrives")


#: Each with the settings that begin its threads, and how a request reports a text.
REPORTERS = {
    "Elastic APM": (
        """
import elasticapm, os
if "DJWORKER_LAUNCH" in os.environ:
    client = elasticapm.Client(service_name="shop", server_url="http://localhost:{port}", cloud_provider="none")
    report = client.capture_message
    report("while loading {mark}")
""",
        (
            "from testproject.settings import client; client.begin_transaction('x'); client.capture_message(text);"
            " client.end_transaction('x')"
        ),
    ),
    "PostHog": (
        """
import os, posthog
if "DJWORKER_LAUNCH" in os.environ:
    posthog.api_key, posthog.host = "key", "http://localhost:{port}"
    posthog.capture("while loading {mark}", distinct_id="shop")
""",
        "import posthog; posthog.capture(text, distinct_id='shop')",
    ),
}


@pytest.mark.parametrize("name", list(REPORTERS))
def test_threads_that_report_begin_again_in_every_worker(
    server: Server, project: Project, collector: Collector, name: str
) -> None:
    mark = uuid4().hex
    settings, report = REPORTERS[name]
    project.append(SETTINGS, settings.format(port=collector.server_port, mark=mark))
    project.append(
        URLS,
        REPORT.replace(
            'import logging\n    logging.getLogger("shop").error(request.GET["text"])',
            f'text = request.GET["text"]; {report}',
        ),
    )
    server.start(workers=1)
    assert server.wait_for("threads_ended")["libraries"] == [name]
    eventually(lambda: collector.count(f"while loading {mark}") == 1, "what happened while loading is reported once")
    assert server.get(f"/reports?text=request{mark}").status == 200
    eventually(lambda: collector.has(f"request{mark}"), "what happens in a request is reported")
    server.reload()
    assert server.get(f"/reports?text=again{mark}").status == 200
    eventually(lambda: collector.has(f"again{mark}"), "new code reports, too")


OTEL = """
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

def note(kind, text):
    with open(BASE_DIR / f"{kind}.{os.getpid()}", "a") as file:
        file.write(f"{text}\\n")

class Spans(SpanExporter):
    def export(self, spans):
        for span in spans:
            note("spans", span.attributes.get("http.target", span.name))
        return SpanExportResult.SUCCESS

class Metrics(MetricExporter):
    def export(self, data, timeout_millis=0, **kwargs):
        note("metrics", "exported")
        return MetricExportResult.SUCCESS
    def force_flush(self, timeout_millis=0):
        return True
    def shutdown(self, timeout_millis=0, **kwargs):
        pass

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Spans(), schedule_delay_millis=100))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(Metrics(), export_interval_millis=100)]))
metrics.get_meter("shop").create_counter("visits").add(1)
DjangoInstrumentor().instrument()
"""


def test_open_telemetry_exports_in_every_worker(server: Server, project: Project) -> None:
    project.append(SETTINGS, f"import os\n{OTEL}")
    server.start(workers=1)
    assert server.wait_for("threads_ended")["libraries"] == ["OpenTelemetry"]
    assert server.get("/hello?told=1").status == 200
    spans, metrics = (project.path(f"{kind}.{server.worker()}") for kind in ("spans", "metrics"))
    eventually(lambda: spans.exists() and "/hello" in spans.read_text(), "the span of a request is exported")
    eventually(metrics.exists, "metrics are exported")
    assert spans.read_text().count("/hello") == 1


#: As projects read a file of variables; whoever reads it second must not find what the first has put there.
READERS = """
import os
from pathlib import Path
import environ
from decouple import Config, RepositoryEnv
from dotenv import load_dotenv

HERE = Path(__file__).parent
load_dotenv(HERE / ".env.dotenv")
environ.Env.read_env(HERE / ".env.environ")
os.environ.setdefault("BY_SETDEFAULT", (HERE / ".env.plain").read_text())
BY_DECOUPLE = Config(RepositoryEnv(HERE / ".env.dotenv"))("BY_DOTENV")
"""
SHOWN = """
def variables(request):
    import os
    from django.http import JsonResponse
    names = ("BY_DOTENV", "BY_ENVIRON", "BY_SETDEFAULT", "GIVEN", "DJANGO_SETTINGS_MODULE")
    from django.conf import settings
    return JsonResponse({"BY_DECOUPLE": settings.BY_DECOUPLE, **{name: os.environ.get(name) for name in names}})

urlpatterns += [path("variables", variables)]
"""


def write_variables(project: Project, value: str) -> None:
    """The files that the settings read."""
    project.write("testproject/.env.dotenv", f"BY_DOTENV={value}\nGIVEN={value}\n")
    project.write("testproject/.env.environ", f"BY_ENVIRON={value}\nGIVEN={value}\n")
    project.write("testproject/.env.plain", value)


@pytest.mark.parametrize("program", [MANAGE, MODULE])
def test_a_reload_sees_the_changed_file_of_variables(
    server: Server, project: Project, program: tuple[str, ...]
) -> None:
    write_variables(project, "old")
    project.append(SETTINGS, READERS)
    project.append(URLS, SHOWN)
    environ = {"GIVEN": "by the operator", "DJANGO_SETTINGS_MODULE": "testproject.settings"}
    server.start(workers=1, program=program, environ=environ)
    names = ("BY_DECOUPLE", "BY_DOTENV", "BY_ENVIRON", "BY_SETDEFAULT")
    assert server.get("/variables").json() == {**dict.fromkeys(names, "old"), **environ}
    write_variables(project, "new")
    server.reload()
    server.wait_for("worker_gone")
    assert server.get("/variables").json() == {**dict.fromkeys(names, "new"), **environ}
    assert not server.events("environment_kept")


def test_what_the_start_program_sets_itself_reaches_every_generation(server: Server, project: Project) -> None:
    project.edit("manage.py", "import os\n", "import os\nos.environ['BY_DOTENV'] = 'by manage.py'\n")
    project.append(SETTINGS, "import os\nassert os.environ['BY_DOTENV'] == 'by manage.py'")
    server.start(workers=1)
    assert "BY_DOTENV" in server.wait_for("environment_kept")["names"]
    server.reload()


CONFIGURATIONS = """
from configurations import Configuration
from testproject import plain_settings as plain

class Shop(Configuration):
    locals().update({name: getattr(plain, name) for name in dir(plain) if name.isupper()})
"""


@pytest.mark.parametrize("program", [MANAGE, MODULE])
def test_settings_may_be_a_class_of_django_configurations(
    server: Server, project: Project, program: tuple[str, ...]
) -> None:
    project.write("testproject/plain_settings.py", project.path(SETTINGS).read_text())
    project.write(SETTINGS, CONFIGURATIONS)
    project.edit("manage.py", "from django.core.management import", "from configurations.management import")
    environ = {"DJANGO_SETTINGS_MODULE": "testproject.settings", "DJANGO_CONFIGURATION": "Shop"}
    server.start(workers=1, program=program, environ=environ)
    assert server.get("/hello").status == 200


def test_closed_standard_streams_are_no_reason_to_die(server: Server, project: Project) -> None:
    """Standard error stays open for the test to hear anything; what the log would go to is closed below."""
    shut = "import os, sys; os.close(0); os.close(1); os.execv(sys.argv[1], sys.argv[1:])"
    server.start(prefix=[sys.executable, "-c", shut], access_log="-", workers=1)
    assert server.get("/hello").status == 200
    for pid in server.settled():
        assert [Path(f"/proc/{pid}/fd/{number}").readlink() for number in (0, 1)] == [Path("/dev/null")] * 2
    server.reload()


def test_a_server_without_standard_error_serves(project: Project, scratch: Path) -> None:
    mute = "import os, sys; os.closerange(0, 3); os.execv(sys.argv[1], sys.argv[1:])"
    address = f"unix:{scratch}/mute"
    options = command({"bind": address, "workers": 1, "pid": scratch / "pid"})
    process = subprocess.Popen([sys.executable, "-c", mute, *options], cwd=project.folder, env=environment({}))
    try:
        eventually((scratch / "pid").exists, "it listens")
        assert request(Address(address), "/hello").status == 200
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.parametrize("words, program", [((), MANAGE), (("testproject.wsgi",), MODULE)])
def test_sockets_that_are_meant_for_another_process_are_told_of(
    server: Server, words: Sequence[str], program: Sequence[str]
) -> None:
    server.start(*words, program=program, workers=1, environ={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    warning = server.wait_for("config_warning", id="W010")
    assert "meant for process 1" in warning["message"]


SAME = """
import random
import grpc
import numpy
from faker import Faker

fake = Faker()

def numbers(request):
    import gevent, os
    from django.http import JsonResponse
    channel = grpc.insecure_channel(request.GET["at"])
    call = gevent.spawn(channel.unary_unary("/shop/waits"), b"")
    turns = 0
    while not call.ready():
        gevent.sleep(0.01)
        turns += 1
    import uuid
    sequences = len({uuid.uuid1().clock_seq for _ in range(8)})
    made = {"sequences": sequences, "random": random.random(), "numpy": numpy.random.random(), "faker": fake.pyfloat()}
    return JsonResponse({"pid": os.getpid(), "turns": turns, "said": call.get().decode(), **made})

__import__("uuid").uuid1()
random.seed(1)
numpy.random.seed(1)
Faker.seed(1)
urlpatterns += [path("numbers", numbers)]
"""


def test_random_numbers_differ_between_workers_and_grpc_waits_in_the_hub(server: Server, project: Project) -> None:
    project.append(URLS, SAME)
    waits = grpc.unary_unary_rpc_method_handler(lambda _request, _context: time.sleep(0.3) or b"heard")
    service = grpc.server(ThreadPoolExecutor(2))
    service.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop", {"waits": waits})])
    port = service.add_insecure_port("127.0.0.1:0")
    service.start()
    try:
        server.start()
        answers = {}
        while len(answers) < 2:
            answer = server.get(f"/numbers?at=127.0.0.1:{port}")
            answers[answer.json()["pid"]] = answer.json()
    finally:
        service.stop(None)
    first, second = answers.values()
    assert first["said"] == "heard"
    assert first["turns"] > 5
    assert first["sequences"] > 1, "a sequence of the process was copied by the fork"
    assert first["random"] != second["random"]
    assert first["numpy"] != second["numpy"]
    assert first["faker"] != second["faker"]


#: As ``opentelemetry-instrument`` and its like come into a program: Python runs this before everything else.
AGENT = """
import json, os, ssl, sys, threading
from gevent import monkey
patched = monkey.is_module_patched("threading") and monkey.is_module_patched("ssl")
found = {"words": sys.orig_argv, "patched": patched, "user": os.getuid(), "cwd": os.getcwd(), "path": sys.path}
with open(os.environ["AGENT_NOTES"], "a") as file:
    file.write(json.dumps(found) + "\\n")
"""
STARTS = """
def starts(request):
    import subprocess, sys
    from django.http import HttpResponse
    words = "import os, sys; print(os.environ['PYTHONPATH'], 'gevent' in sys.modules)"
    return HttpResponse(subprocess.check_output([sys.executable, "-c", words]))

urlpatterns += [path("starts", starts)]
"""


def test_an_agent_of_the_interpreter_runs_where_the_project_does_and_after_the_patch(
    server: Server, project: Project, scratch: Path
) -> None:
    (scratch / "agent").mkdir()
    (scratch / "agent/sitecustomize.py").write_text(AGENT)
    (scratch / "notes").touch()
    (scratch / "notes").chmod(0o666)
    project.append(URLS, STARTS)
    environ = {"PYTHONPATH": f"{scratch}/agent:{project.folder}", "AGENT_NOTES": f"{scratch}/notes"}
    rights = {"user": "nobody", "prefix": open_to_everybody(scratch)} if os.geteuid() == 0 else {}
    server.start(workers=1, environ=environ, **rights)
    notes = [json.loads(line) for line in (scratch / "notes").read_text().splitlines()]
    assert not [note for note in notes if "djworker.arbiter" in note["words"]]
    (mold,) = [note for note in notes if "djworker.mold.main" in note["words"]]
    assert mold["patched"]
    assert mold["cwd"] == str(project.folder)
    assert mold["path"][0] == str(project.folder)
    assert mold["user"] != 0
    assert server.get("/starts").body.decode().endswith(f"{environ['PYTHONPATH']} True\n"), "the agent imports gevent"
    assert not server.events("not_shared")
    server.reload()
    assert server.get("/starts").status == 200


@runs("explanation/loading.md", "opentelemetry-instrument djworker")
def test_open_telemetry_comes_in_by_its_own_command(
    server: Server, project: Project, collector: Collector, blocks: tuple[Block, ...]
) -> None:
    """Its threads begin before the mold's first line, and are gevent's."""
    (block,) = blocks
    variable, command_of_theirs, ours, module = block.text.split()
    name, _, protocol = variable.partition("=")
    tool = [sys.executable, Path(sys.executable).with_name(command_of_theirs)]
    address = f"http://127.0.0.1:{collector.server_port}"
    environ = {name: protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_METRICS_EXPORTER": "none"}
    schedule = {"OTEL_BSP_SCHEDULE_DELAY": "100", "DJANGO_SETTINGS_MODULE": "testproject.settings"}
    program = ("-m", ours, module.replace("shop", "testproject"))
    server.start(prefix=tool, workers=1, program=program, environ={**environ, **schedule})
    assert server.wait_for("threads_ended")["libraries"] == ["OpenTelemetry"]
    assert server.get("/hello?told=1").status == 200
    eventually(lambda: collector.has("GET hello"), "the span of a request is exported")
    assert len(list(Path(f"/proc/{server.pid}/task").iterdir())) == 1, "no agent in the arbiter"
    server.reload()
    assert not server.events("not_shared")


MEASURED = """
from prometheus_client import Gauge
busy = Gauge("busy", "Who is there", multiprocess_mode="livesum")

def measured(request):
    import os
    from django.http import HttpResponse
    busy.set(1)
    return HttpResponse(os.getpid())

urlpatterns += [path("measured", measured)]
"""


@runs("explanation/loading.md", "mark_process_dead")
def test_the_metrics_of_dead_processes_are_taken_out_by_the_recipe(
    server: Server, project: Project, scratch: Path, blocks: tuple[Block]
) -> None:
    metrics = scratch / "metrics"
    metrics.mkdir()

    def gauges() -> set[int]:
        return {int(path.stem.rpartition("_")[2]) for path in metrics.glob("gauge_livesum_*.db")}

    project.write("testproject/shop/apps.py", blocks[0].text.replace('"shop"', '"testproject.shop"'))
    project.append(URLS, MEASURED)
    server.start(environ={"PROMETHEUS_MULTIPROC_DIR": str(metrics)})
    first, second = server.worker(0), server.worker(1)
    eventually(lambda: server.get("/measured").status == 200 and {first, second} <= gauges(), "both have measured")
    mark = server.kill(first)
    eventually(lambda: first not in gauges(), "the dead worker's gauges are taken out")
    server.wait_for("worker_ready", since=mark)
    assert second in gauges()
    mark = server.reload()
    server.wait_for("worker_gone", since=mark, pid=second)
    eventually(lambda: second not in gauges(), "so are those of a generation that has gone")
    assert server.get("/measured").status == 200


QUEUES = """
import queue
from concurrent.futures import ThreadPoolExecutor
from threading import Condition, Thread
import gevent.pool, gevent.threadpool

executor = ThreadPoolExecutor(1)
native, greenlets, lock = gevent.threadpool.ThreadPool(1), gevent.pool.Pool(2), Condition()
asked, answered = queue.Queue(), queue.SimpleQueue()

def answer():
    while True:
        answered.put(asked.get().upper())

def queues(request):
    import time
    from django.http import HttpResponse
    if not hasattr(answer, "thread"):
        answer.thread = Thread(target=answer, daemon=True)
        answer.thread.start()
    time.sleep(0)  # now it waits, and so does the executor's thread from the second request on
    asked.put("said ")
    with lock:
        lock.notify()
    counted = native.spawn(len, "four").get(timeout=5), *greenlets.imap(len, ["a", "bc"])
    return HttpResponse(f'{answered.get(timeout=5)}{executor.submit(len, "four").result(5)} {counted}')

urlpatterns += [path("queues", queues)]
"""


def test_queues_that_were_made_while_loading_work_in_the_workers(server: Server, project: Project) -> None:
    project.append(URLS, QUEUES)
    server.start()
    for _ in range(6):
        assert server.get("/queues").body == b"SAID 4 (4, 1, 2)"
    assert not server.events("not_shared")


#: As buildout writes its scripts: with the folder of each package. What follows ``--`` are djworker's own words.
LAUNCHER = """
import sys
sys.path[0:0] = {path!r}
del sys.argv[1 : sys.argv.index("--") + 1]
from djworker.__main__ import run
run()
"""


@pytest.mark.parametrize("flags", [(), ("-I",), ("-s", "-E")], ids=["buildout", "isolated", "as PEX"])
def test_import_paths_of_a_launcher_reach_the_arbiter_and_the_mold(
    server: Server, project: Project, scratch: Path, flags: Sequence[str]
) -> None:
    """In an interpreter that has none of the packages, each of which has a folder of its own."""
    path = [str(project.folder), *parcels(scratch / "parcels")]
    (scratch / "djworker-script").write_text(LAUNCHER.format(path=path))
    environ = {"PYTHONPATH": "/nowhere", "DJANGO_SETTINGS_MODULE": "testproject.settings"}
    prefix = [sys._base_executable, *flags, str(scratch / "djworker-script")]
    server.start(prefix=prefix, program=("--",), environ=environ, workers=1)
    assert server.get("/hello").status == 200
    assert Path(f"/proc/{server.pid}/cmdline").read_bytes().startswith(b"djworker: arbiter"), "setproctitle is found"
    server.reload()
    mark = server.send(signal.SIGUSR2)
    server.wait_for("arbiter_started", since=mark)
    server.reload()
    assert server.get("/hello").status == 200


def parcels(folder: Path) -> list[str]:
    """A folder for each thing that djworker itself needs, and one for everything else that is installed here."""
    apart = {"djworker", "gevent", "greenlet", "httptools", "psycogreen", "setproctitle", "zope"}
    things = [ROOT / "djworker", *Path(sysconfig.get_path("purelib")).iterdir()]
    homes = dict.fromkeys(thing.name if thing.name in apart else "others" for thing in things)
    for home in homes:
        (folder / home).mkdir(parents=True)
    for thing in things:
        if thing.suffix != ".pth":
            home = thing.name if thing.name in apart else "others"
            (folder / home / thing.name).symlink_to(thing)
    return [str(folder / home) for home in homes]


def test_a_server_without_setproctitle_serves(server: Server, scratch: Path) -> None:
    (scratch / "without").mkdir()
    (scratch / "without/setproctitle.py").write_text("raise ImportError('not here')")
    server.start(workers=1, environ={"PYTHONPATH": str(scratch / "without")})
    assert server.get("/hello").status == 200
    assert b"djworker.arbiter" in Path(f"/proc/{server.pid}/cmdline").read_bytes(), "its words are what ps shows"
    mark = server.send(signal.SIGUSR2)
    server.wait_for("arbiter_started", since=mark)
    server.reload()


MANAGER = """
import multiprocessing
import os

if "DJWORKER_LAUNCH" in os.environ:
    manager = multiprocessing.Manager()
    visits = manager.list()

def visit(request):
    from django.http import JsonResponse
    visits.append(os.getpid())
    return JsonResponse({"visits": list(visits), "manager": manager._process.pid})

urlpatterns += [path("visit", visit)]
"""


def test_a_manager_of_multiprocessing_is_shared_by_the_workers_and_ends_with_its_generation(
    server: Server, project: Project
) -> None:
    project.append(URLS, MANAGER)
    server.start()
    assert not server.events("not_shared")
    eventually(lambda: len(set(server.get("/visit").json()["visits"])) == 2, "both workers have added to the list")
    manager = server.get("/visit").json()["manager"]
    mark = server.kill(server.worker(), signal.SIGTERM)
    server.wait_for("worker_gone", since=mark)
    assert server.get("/visit").json()["manager"] == manager
    assert server.stop() == 0
    eventually(lambda: not server.tree(), "the manager ends, too")
    assert "Exception ignored" not in server.transcript.read_text()


COLLECTOR = """
import gc, faulthandler
gc.disable()
gc.set_threshold(50_000, 20)
gc.freeze()
faulthandler.enable(open(BASE_DIR / "crash.txt", "w"))
"""
COLLECTS = """
def collects(request):
    import ctypes, gc, os
    from django.http import JsonResponse
    if "crash" in request.GET:
        ctypes.string_at(0)
    return JsonResponse([gc.isenabled(), *gc.get_threshold()[:2], os.getpid()], safe=False)

urlpatterns += [path("collects", collects)]
"""


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_what_the_project_asks_of_the_collector_and_of_faulthandler_holds_in_workers(
    server: Server, project: Project, preload: str
) -> None:
    project.append(SETTINGS, COLLECTOR)
    project.append(URLS, COLLECTS)
    server.start(workers=1, preload_mode=preload)
    assert server.get("/collects").json() == [False, 50_000, 20, server.worker()]
    server.in_background("/collects?crash=1")
    server.wait_for("worker_gone")
    assert "Segmentation fault" in project.path("crash.txt").read_text()


#: As Logfire does.
EXIT = """
import os, time
_exit = os._exit

def leave(code):
    time.sleep(60)
    _exit(code)

os._exit = leave
"""


def test_a_library_that_exchanges_the_exit_of_processes_holds_up_no_stop(server: Server, project: Project) -> None:
    """Exit handlers have had their time by then."""
    project.append(URLS, EXIT)
    server.start(workers=1)
    assert server.stop() == 0
    assert not server.events("worker_killed")
