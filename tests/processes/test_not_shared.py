"""Projects that start while they load what no fork can share: each worker loads them by itself, with a spare one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.docs.blocks import Block, runs
from tests.ports import free_port
from tests.processes.events import eventually
from tests.processes.procfs import alive
from tests.processes.project import SETTINGS, URLS, VIEWS, Project
from tests.processes.server import Server, command, environment

APPS = "testproject/shop/apps.py"
SCHEDULER = """
import os
from datetime import timedelta
from apscheduler.schedulers.background import BackgroundScheduler
from django.apps import AppConfig
from django.conf import settings

def job():
    (settings.BASE_DIR / f"job.{os.getpid()}").touch()

class ShopConfig(AppConfig):
    name = "testproject.shop"

    def ready(self):
        if "DJWORKER_LAUNCH" in os.environ:
            self.scheduler = BackgroundScheduler()
            self.scheduler.add_job(job, "interval", seconds=0.1)
            self.scheduler.start()
"""
OTHERS = """
import queue
from concurrent.futures import ThreadPoolExecutor
from logging.handlers import QueueListener
from confluent_kafka import Producer
from prometheus_client import start_http_server

listener = QueueListener(queue.Queue())
listener.start()
executor = ThreadPoolExecutor(1)
executor.submit(int)
start_http_server(0, "127.0.0.1")
producer = Producer({"bootstrap.servers": "localhost:1", "log_level": 0})

def submits(request):
    from django.http import HttpResponse
    return HttpResponse(str(executor.submit(len, "four").result(5)))

urlpatterns += [path("submits", submits)]
"""
LEAVES = """
import atexit, os
from django.conf import settings
atexit.register(lambda: (settings.BASE_DIR / f"left.{os.getpid()}").touch())
"""


def test_what_cannot_be_shared_runs_in_each_worker_and_is_told_of_once(server: Server, project: Project) -> None:
    project.write(APPS, SCHEDULER)
    project.append(URLS, OTHERS)
    project.settings(WARM_UP=["/submits"])
    server.start()
    (warning,) = server.events("not_shared")
    assert warning["mebibytes"] > 10
    assert "preload = off" in warning["message"]
    for thread, file in (("APScheduler", APPS), ("ThreadPoolExecutor", URLS), ("Thread-", URLS), ("Producer", URLS)):
        assert any(thread in line and file in line for line in warning["found"]), warning["found"]
    assert any("started by apscheduler at" in line for line in warning["found"])
    assert not any("gevent/" in line or "/djworker/" in line for line in warning["found"])
    assert server.get("/submits").body == b"4"
    for slot in (0, 1):
        eventually(project.path(f"job.{server.worker(slot)}").exists, "the scheduler runs in the worker")


def test_a_page_that_needs_what_the_project_has_begun_gets_in(server: Server, project: Project) -> None:
    """A copy of the process has no executor's thread: the page is asked where the thread is, and is no worse than before."""
    project.settings(PROBE=["/submits", "/hello"])
    server.start(workers=1)
    project.append(URLS, OTHERS + LEAVES)
    server.reload()
    assert server.get("/submits").body == b"4"
    assert not server.events("probe_failed")
    spare = server.wait_for("spare_ready")["pid"]
    assert server.stop() == 0
    assert project.path(f"left.{spare}").exists(), "what the spare worker has begun ends with it, too"


#: The receiver runs in a child of the spare worker, or waits for the next one.
TOLD = """
from djworker.signals import process_gone

def note(kind, pid, generation, status, **kwargs):
    (settings.BASE_DIR / f"gone.{pid}").write_text(f"{kind} {generation} {status} {os.getpid()}")

process_gone.connect(note)
"""


def test_a_worker_that_dies_is_replaced_by_the_code_that_it_ran(server: Server, project: Project) -> None:
    project.write(APPS, SCHEDULER + TOLD)
    project.set_version(1)
    server.start(workers=1)
    spare = server.wait_for("spare_ready")["pid"]
    project.set_version(2)
    killed = server.worker()
    mark = server.kill(killed)
    server.wait_for("worker_ready", since=mark)
    assert (server.worker(), server.version()) == (spare, 1)
    server.wait_for("spare_ready", since=mark)
    note = project.path(f"gone.{killed}")
    eventually(lambda: note.exists() and note.read_text(), "the next spare worker tells of the death")
    assert note.read_text().startswith("worker 1 -9 ")
    assert int(note.read_text().split()[-1]) not in server.ready()
    with server.load(clients=2) as load:
        server.reload()
        load.wait_for_version(2)
    load.assert_nothing_lost()
    mark = server.hup()
    server.wait_for("reload_done", since=mark)


def test_a_spare_worker_of_newer_code_is_no_measure_for_it(server: Server, project: Project) -> None:
    """The files changed, a worker died, and the spare that was loaded then answers as the code that is to be judged."""
    project.write(APPS, SCHEDULER)
    server.start(workers=1, probe="/hello", strict=True)  # asked before it serves
    spare = server.wait_for("spare_ready")["pid"]
    project.append(VIEWS, "def hello(request):\n    raise RuntimeError('no greeting today')")
    mark = server.kill(server.worker())
    server.wait_for("spare_ready", since=mark)
    assert server.worker() == spare
    mark = server.hup()
    failed = server.wait_for("reload_failed", since=mark)
    assert (failed["stage"], failed["module"]) == ("probe", "GET /hello")
    assert server.get("/hello").status == 200


def test_a_reload_that_does_not_load_leaves_such_workers_alone(server: Server, project: Project) -> None:
    project.write(APPS, SCHEDULER)
    server.start(workers=1)
    server.wait_for("spare_ready")
    project.break_syntax()
    mark = server.hup()
    server.wait_for("reload_failed", since=mark)
    mark = server.kill(server.worker())
    server.wait_for("worker_ready", since=mark)
    assert server.wait_for("spare_failed", since=mark)["module"] == "testproject.shop.views.plain"
    assert server.get("/hello").status == 200


def check(project: Project, preload: str, *words: str) -> tuple[int, list[dict[str, str]]]:
    """Run ``--check``; its exit code and its log."""
    done = subprocess.run(
        command({"preload_mode": preload}, "--check", *words),
        cwd=project.folder,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


def test_preload_on_refuses_and_off_says_nothing(project: Project) -> None:
    project.write(APPS, SCHEDULER)
    code, said = check(project, "on")
    assert code == 3
    assert f"{Path(APPS).name}:" in said[-1]["message"]
    assert "worker_ready" in said[-1]["message"]
    code, said = check(project, "off")
    assert code == 0
    assert not [line for line in said if line["event"] == "not_shared"]


def test_a_check_asks_for_pages_where_their_threads_are(project: Project) -> None:
    """A process that the project begins ends with the check, which would otherwise keep the pipe open that we read."""
    project.append(URLS, OTHERS + "import subprocess\nsubprocess.Popen(['sleep', '3600'])\n")
    project.settings(PROBE=["/submits"])
    code, said = check(project, "auto", "--strict")
    assert (code, said[-1]["event"]) == (0, "check_passed")
    assert "probe_failed" not in [line["event"] for line in said]


def test_spare_workers_outlive_a_new_arbiter_and_are_replaced_themselves(server: Server, project: Project) -> None:
    project.write(APPS, SCHEDULER)
    server.start(workers=1)
    spare = server.wait_for("spare_ready")["pid"]
    mark = server.send(signal.SIGUSR2)
    server.wait_for("arbiter_started", since=mark)
    mark = server.kill(spare)
    spare = server.wait_for("spare_ready", since=mark)["pid"]
    mark = server.kill(server.worker())
    server.wait_for("worker_ready", since=mark)
    assert server.worker() == spare
    mark = server.send(signal.SIGTTIN)
    server.wait_for("worker_ready", since=mark)
    assert server.get("/hello").status == 200


@runs("explanation/loading.md", "BlockingScheduler")
def test_the_recipe_for_a_scheduler_shares_again_and_has_one_worker_of_each_generation(
    server: Server, project: Project, blocks: tuple[Block]
) -> None:
    job = "\n\ndef clean_up():\n    import os\n    from django.conf import settings\n"
    job += "    (settings.BASE_DIR / f'job.{os.getpid()}').touch()\n"
    recipe = blocks[0].text.replace('"shop"', '"testproject.shop"').replace("minutes=5", "seconds=0.1")
    project.write(APPS, recipe.replace("/run/shop/jobs.lock", str(project.path("jobs.lock"))) + job)
    server.start(workers=2)
    old = set(server.ready())
    eventually(lambda: jobs_of(project), "the job runs in a worker")
    assert not server.events("not_shared")
    server.reload()
    eventually(lambda: not old & set(server.tree()), "the old workers have ended")
    for path in files_of_jobs(project):
        path.unlink()
    eventually(lambda: jobs_of(project), "the job runs in a worker of the new generation")
    assert jobs_of(project) < set(server.ready()), "in one of the two"


def files_of_jobs(project: Project) -> list[Path]:
    return list(project.path("job").parent.glob("job.*"))


def jobs_of(project: Project) -> set[int]:
    """The processes in which the job has run."""
    return {int(path.suffix[1:]) for path in files_of_jobs(project)}


PORT = """
import os, socket
if "DJWORKER_LAUNCH" in os.environ:
    listener = socket.create_server(("127.0.0.1", {port}))
"""


def test_a_port_that_only_one_process_can_open_is_told_of(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        project.append(URLS, PORT.format(port=taken.getsockname()[1]))
        code, said = check(project, "auto")
    assert code == 3
    assert (said[-1]["stage"], said[-1]["module"]) == ("urlconf", "testproject.urls")
    assert "the one worker that has a lock" in said[-1]["message"]


EXPORTER = 'INSTALLED_APPS += ["django_prometheus"]\nPROMETHEUS_METRICS_EXPORT_ADDRESS = "127.0.0.1"\n'


def test_a_port_for_one_process_leaves_a_worker_and_is_told_with_its_setting(server: Server, project: Project) -> None:
    """The remedy too. gunicorn ends where its second worker cannot boot; here the first one serves on."""
    port = free_port()
    project.append(SETTINGS, f"{EXPORTER}PROMETHEUS_METRICS_EXPORT_PORT = {port}\n")
    server.launch()
    server.wait_for("worker_ready")
    failed = server.wait_for("mold_failed")
    assert f"PROMETHEUS_METRICS_EXPORT_PORT = {port}: " in failed["error"]
    assert "PROMETHEUS_METRICS_EXPORT_PORT_RANGE instead" in failed["error"]
    assert server.get("/hello").status == 200
    server.tracebacks_expected = True


def test_a_range_of_ports_has_one_for_each_worker_of_two_generations(server: Server, project: Project) -> None:
    first = free_port(6)
    ports = f"PROMETHEUS_METRICS_EXPORT_PORT_RANGE = range({first}, {first + 6})\n"
    project.append(SETTINGS, f"{EXPORTER}{ports}")
    server.start()
    server.reload()
    assert server.get("/hello").status == 200


#: Each line of the file: who has loaded the settings, and what it has begun.
BEGINS = """
import multiprocessing, os, subprocess, time

def begin():
    program = subprocess.Popen(["sleep", "3600"])
    short = subprocess.Popen(["true"])
    double = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,), daemon=True)
    double.start()
    with (BASE_DIR / "begun.txt").open("a") as file:
        file.write(f"{os.getpid()} {program.pid} {double.pid}\\n")

begin()
"""


def begun(project: Project) -> dict[int, tuple[int, int]]:
    """Who has begun which program, and which process of ``multiprocessing``."""
    rows = [tuple(map(int, line.split())) for line in project.path("begun.txt").read_text().splitlines()]
    return {who: (program, double) for who, program, double in rows}


def test_processes_that_the_settings_begin_are_each_workers_own(server: Server, project: Project) -> None:
    """What the command had begun before it became the server ends at once; what a worker has begun is as under gunicorn."""
    project.append(SETTINGS, BEGINS)
    server.start(workers=1)
    ended = " ".join(server.wait_for("processes_ended")["processes"])
    assert all(f"{pid} (" in ended for pid in begun(project)[server.pid]), ended
    spare, worker = server.wait_for("spare_ready")["pid"], server.worker()
    pids = begun(project)
    eventually(lambda: not any(map(alive, pids[server.pid])), "those of the command have ended")
    assert set(pids) == {server.pid, worker, spare}
    assert all(map(alive, (*pids[worker], *pids[spare])))
    program, double = pids[worker]
    assert server.stop() == 0
    eventually(lambda: not any(map(alive, (double, *pids[spare]))), "a spare worker leaves nothing")
    assert alive(program), "a program goes on, as under gunicorn"
    os.kill(program, signal.SIGKILL)
    assert [event["pid"] for event in server.events("worker_gone")] == [worker], "no other end was taken for a worker's"
