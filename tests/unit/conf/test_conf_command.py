"""``manage.py runworkers`` up to the moment when it becomes something else, on the real test project."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django
import pytest

import djworker
from djworker.arbiter.signal_queue import HANDLED
from djworker.conf.pool_table import POOL_OPTIONS
from djworker.conf.table import OPTIONS
from djworker.ipc.launch import Launch
from djworker.start import interpreter

ROOT = Path(__file__).resolve().parents[3]

# Stands where the interpreter stands, so that the real execve can be watched from the other side.
SUCCESSOR = """#!{python}
import json, os, signal, sys
descriptors = {{}}
for fd in range(3, 64):
    try:
        descriptors[fd] = os.fstat(fd).st_mode
    except OSError:
        pass
print(json.dumps({{
    "argv": sys.argv[1:], "pid": os.getpid(), "environ": dict(os.environ), "cwd": os.getcwd(), "fds": list(descriptors),
    "held": list(signal.pthread_sigmask(signal.SIG_BLOCK, []))
}}))
"""
# What systemd does for a socket unit.
PASS = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""
# What manage.py is, with another interpreter to become.
MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
sys.executable = os.environ["SUCCESSOR"]
sys.stdout.write("said before ")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""


@dataclass
class Outcome:
    """How the command ended."""

    code: int
    stdout: str
    lines: list[str]


def run(
    *arguments: str, environ: Mapping[str, str] | None = None, program: Path = ROOT / "manage.py", **more: Any
) -> Outcome:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DJWORKER", "LISTEN_", "PORT"))}
    done = subprocess.run(
        [sys.executable, str(program), "runworkers", *arguments],
        env={**kept, **(environ or {})},
        cwd=more.pop("cwd", ROOT),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )
    return Outcome(done.returncode, done.stdout, done.stderr.splitlines())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with a manage.py whose interpreter is the successor."""
    (tmp_path / "successor").write_text(SUCCESSOR.format(python=sys.executable))
    (tmp_path / "successor").chmod(0o755)
    (tmp_path / "manage.py").write_text(MANAGE)
    return tmp_path


def become(project: Path, *arguments: str, environ: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    found = run(
        *arguments,
        environ={"SUCCESSOR": str(project / "successor"), "PYTHONPATH": str(ROOT), **(environ or {})},
        program=project / "manage.py",
        **more,
    )
    assert found.code == 0, found.lines
    said, _, successor = found.stdout.partition("{")
    assert said == "said before "  # what was written before is not lost
    return {"stderr": found.lines, **json.loads("{" + successor)}


# -- print and refuse


def test_the_configuration_is_printed_with_its_sources() -> None:
    found = run("[::1]:8001", "--workers", "3", "--print-config", environ={"DJWORKER_KEEP_ALIVE": "5m"})
    assert found.code == 0
    rows = [line.split() for line in found.stdout.splitlines()]
    assert [row[0] for row in rows] == list(OPTIONS)
    assert ["bind", "=", "[::1]:8001", "#", "command", "line", "--bind"] in rows
    assert ["keep_alive", "=", "300", "#", "environment", "DJWORKER_KEEP_ALIVE"] in rows
    assert ["timeout", "=", "30", "#", "default"] in rows


def test_the_configuration_is_printed_as_json() -> None:
    found = run("--print-config", "--format", "json", "-b", "8001", "-b", "8002", environ={"WEB_CONCURRENCY": "5"})
    printed = json.loads(found.stdout)
    assert printed.keys() == {*OPTIONS, "pools"}
    assert printed["pools"] == {}, "SQLite has no pool"
    assert printed["bind"]["value"] == ["127.0.0.1:8001", "127.0.0.1:8002"]
    assert printed["workers"] == {
        "value": 5,
        "unit": None,
        "source": "environment WEB_CONCURRENCY",
        "reloadable": True,
    }
    assert printed["timeout"]["unit"] == "seconds"
    assert printed["proc_name"]["value"] == "testproject"


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_is_odd_is_told_beside_the_printed_options(form: str) -> None:
    """Who asks why a variable does nothing asks for the options, and not for a check."""
    found = run("--print-config", "--format", form, environ={"DJWORKER_POOL_MAXSIZE": "3"})
    [line] = found.lines
    assert found.code == 0
    assert "unknown variable DJWORKER_POOL_MAXSIZE: did you mean DJWORKER_POOL_MAX_SIZE?" in line
    assert "MAXSIZE" not in found.stdout


PIN = "my_function\nits_friend"


def test_the_pools_are_printed_for_each_alias_with_their_sources() -> None:
    environ = {"DATABASE_URL": "postgres://host/shop", "DJWORKER_POOL_TIMEOUT": "5s", "DJWORKER_POOL_PIN_SQL": PIN}
    found = run("--print-config", "--pool-max-size", "7", "--pool-strict", environ=environ)
    rows = [" ".join(line.split()) for line in found.stdout.splitlines()]
    shown = [row for row in rows if row.startswith("pools.")]
    assert [row.split()[0] for row in shown] == [f"pools.default.{name}" for name in POOL_OPTIONS]
    assert "pools.default.max_size = 7 # command line --pool-max-size" in shown
    assert "pools.default.timeout = 5 # environment DJWORKER_POOL_TIMEOUT" in shown
    assert "pools.default.strict = true # command line --pool-strict" in shown
    assert "pools.default.pin_sql = my_function, its_friend # environment DJWORKER_POOL_PIN_SQL" in shown
    assert "pools.default.min_size = 0 # default" in shown
    found = run("--print-config", "--format", "json", "--no-pool-strict", environ=environ)
    pool = json.loads(found.stdout)["pools"]["default"]
    assert pool["timeout"] == {
        "value": 5.0,
        "unit": "seconds",
        "source": "environment DJWORKER_POOL_TIMEOUT",
        "reloadable": True,
    }
    assert (pool["pin_sql"]["value"], pool["strict"]["value"]) == (PIN.splitlines(), False)


def test_what_is_wrong_with_pools_is_told_with_all_else() -> None:
    found = run(
        "--pool-max-size", "none", "--pool-max-sise", "3", "--workers", "x", environ={"DJWORKER_POOL_LEASE": "y"}
    )
    assert found.code == 2
    numbers = sorted(line.split(":")[0].removeprefix("djworker.") for line in found.lines)
    assert numbers == ["E001", "E002", "E022", "E022"]
    assert any("did you mean --pool-max-size?" in line for line in found.lines)


def test_printing_asks_nothing_of_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = run(f"127.0.0.1:{taken.getsockname()[1]}", "--user", "no-such-user", "--print-config")
    assert found.code == 0


def test_every_problem_has_one_line_and_nothing_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = run(
            *(
                "--wrokers",
                "3",
                "--bind",
                f"127.0.0.1:{port}",
                "--timeout",
                "soon",
                "--user",
                "no-such-user",
                "--foo=1",
            ),
            environ={"DJWORKER_BACKLOG": "0"},
        )
    assert found.code == 2
    assert found.stdout == ""
    assert [line.split(":")[0] for line in found.lines] == [
        "djworker.E001",
        "djworker.E001",
        "djworker.E003",
        "djworker.E002",
        "djworker.E005",
        "djworker.E011",
    ]
    assert "did you mean --workers?" in found.lines[0]
    assert str(port) in found.lines[-1]


@pytest.mark.parametrize(
    "arguments,part",
    [
        (["--workers"], "expected one argument"),
        (["--work", "3"], "unknown option --work"),
        (["8000", "8001"], "unknown words 8001"),
        (["--format", "xml"], "invalid choice"),
        (["nonsense"], "no port"),
        (["--pid", "/no/such/directory/pid", "127.0.0.1:0"], "there is no directory /no/such/directory"),
    ],
)
def test_slips_on_the_command_line(arguments: list[str], part: str) -> None:
    found = run(*arguments)
    assert found.code == 2
    assert part in found.lines[-1]
    assert not any("Traceback" in line for line in found.lines)


def test_help_tells_of_every_option() -> None:
    found = run("--help")
    assert found.code == 0
    for option in OPTIONS.values():
        assert f"{option.flag}" in found.stdout
        assert option.variable in found.stdout


@pytest.mark.parametrize(
    "words, part",
    [
        (["reload"], "djworkerctl reload --wait"),
        (["testproject.wsgi"], "'djworker testproject.wsgi' is gunicorn's form"),
        (["http://127.0.0.1:8000"], "a URL is no address: give 127.0.0.1:8000"),
        (["--bind", "https://x.example"], "TLS belongs to the proxy in front"),
        (["/tmp/x.sock"], "give unix:/tmp/x.sock"),
        (["--daemon"], "the server stays in the foreground"),
        (["-k", "gthread"], "workers are gevent's"),
        (["-c", "prod.py"], "djworker import-gunicorn FILE"),
        (["--env", "SHOP", "0"], "no NAME=VALUE"),
        (["-e", "DJANGO_SETTINGS_MODULE=other", "0"], "manage.py has loaded testproject.settings already"),
        (["--chdir", "/no/such/folder", "0"], "No such file or directory"),
    ],
)
def test_wrong_words_get_the_right_answer(words: list[str], part: str) -> None:
    found = run(*words)
    assert (found.code, found.stdout) == (2, "")
    assert len(found.lines) == 1
    assert part in found.lines[0]


def test_the_version_is_ours_with_those_below_it() -> None:
    expected = (
        f"djworker {djworker.__version__} (Python {platform.python_version()}, Django {django.get_version()}, gevent"
    )
    assert run("--version").stdout.startswith(expected)
    found = run_module("--version", environ={"DJANGO_SETTINGS_MODULE": "no_such_settings"})
    assert (found.code, found.stdout.startswith(expected)) == (0, True), "no settings are needed for that"


POOLS = """
from testproject.settings import *
DATABASES = {
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": "x"},
    "other": {"ENGINE": "django.db.backends.postgresql", "NAME": "y", "OPTIONS": {"pool": {"max_size": "many"}}},
}
DJWORKER = {
    "TIMEOUT": "soon",
    "POOL": {"max_sise": 3, "timeout": -1},
    "POOLS": {"othre": {}, "default": {"min_size": 20}},
}
"""


@pytest.mark.parametrize("by_module", [True, False])
def test_mistakes_of_pools_are_told_with_all_others_and_once(tmp_path: Path, by_module: bool) -> None:  # noqa: FBT001
    (tmp_path / "spoilt.py").write_text(POOLS)
    words = ["--wrokers", "3", "--settings", "spoilt"]
    environ = {"PYTHONPATH": str(tmp_path)}
    found = run_module(*words, environ=environ) if by_module else run(*words, environ=environ)
    assert found.code == 2
    assert found.stdout == ""
    assert not any("Traceback" in line for line in found.lines)
    assert sorted(line.split(":")[0] for line in found.lines) == [
        *("djworker.E001", "djworker.E002", "djworker.E021", "djworker.E022", "djworker.E022", "djworker.E023"),
        "djworker.E024",
    ]
    for part in (
        "did you mean --workers?",
        "'max_sise'",
        "did you mean max_size?",
        "POOL.timeout = '-1'",
        "'many'",
        "'othre'",
    ):
        assert sum(part in line for line in found.lines) == 1, part


def test_pools_that_are_no_dict_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "spoilt.py").write_text("from testproject.settings import *\nDJWORKER = {'POOL': 3, 'POOLS': 4}")
    found = run("0", "--settings", "spoilt", environ={"PYTHONPATH": str(tmp_path)})
    assert [line.split(":")[0] for line in found.lines] == ["djworker.E020", "djworker.E020"]


def test_what_other_engines_mean_by_a_pool_is_theirs(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(
        "from testproject.settings import *\nDJWORKER = {'POOLS': {'default': {}}}\nDATABASES = {'default': {}, 'oracle': "
        "{'ENGINE': 'django.db.backends.oracle', 'NAME': 'x', 'OPTIONS': {'pool': {'increment': 1, 'min': 2}}}}"
    )
    assert run_module("--print-config", "--settings", "other", environ={"PYTHONPATH": str(tmp_path)}).code == 0


# -- become the arbiter


def test_it_becomes_the_arbiter_in_the_same_process(project: Path) -> None:
    found = become(project, "0", "-w", "3", "--graceful-timeout", "5m")
    launch = Launch.from_environ(found["environ"])
    assert found["argv"] == [*launch.python_flags, "-m", "djworker.arbiter"]
    assert launch.settings_module == "testproject.settings"
    assert launch.cli == {"bind": ["0"], "workers": "3", "graceful_timeout": "5m"}
    assert launch.config.bind == ("127.0.0.1:0",)
    assert launch.config.graceful_timeout == 300
    assert launch.sys_path[0] == str(project)
    assert all(Path(entry).is_absolute() for entry in launch.sys_path)
    assert launch.proc_name == "testproject"
    assert launch.inherited == ()
    assert found["fds"] == []  # nothing of Django's lives on
    assert found["stderr"] == []


def test_signals_wait_for_the_handlers_of_the_arbiter(project: Path) -> None:
    assert set(become(project, "0")["held"]) == set(HANDLED)
    assert become(project, "0", "--check")["held"] == [], "Ctrl-C ends a check"


def test_the_process_id_stays(project: Path) -> None:
    environ = {**os.environ, "SUCCESSOR": str(project / "successor"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(project / "manage.py"), "runworkers", "0"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=60)
    assert json.loads(out[out.index("{") :])["pid"] == process.pid


def test_check_becomes_a_mold_that_only_checks(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # the server may be running meanwhile
        found = become(project, f"127.0.0.1:{taken.getsockname()[1]}", "--check", "--user", "no-such-user")
    assert found["argv"][-3:] == ["-m", "djworker.mold.main", "--check"]
    assert Launch.from_environ(found["environ"]).config.user == "no-such-user"


def test_options_of_django_and_of_the_interpreter_are_kept(project: Path, tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "other.py").write_text("from testproject.settings import *\nDJWORKER = {'WORKERS': 7}\n")
    program = project / "manage.py"
    kept = {**os.environ, "SUCCESSOR": str(project / "successor"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [
            *(sys.executable, "-X", "utf8", "-W", "error", str(program)),
            *("runworkers", "0", "--settings", "other", "--pythonpath", "extra"),
        ],
        env=kept,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout[done.stdout.index("{") :])
    launch = Launch.from_environ(found["environ"])
    assert launch.settings_module == "other"
    assert launch.config.workers == 7
    assert launch.sys_path[:2] == (str(extra), str(project))
    assert {"-X", "utf8", "-Werror"} <= set(launch.python_flags)
    assert found["argv"][:-2] == list(launch.python_flags)


def test_sockets_of_systemd_survive(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        environ = {**os.environ, "SUCCESSOR": str(project / "successor"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                PASS,
                str(passed.fileno()),
                sys.executable,
                str(project / "manage.py"),
                "runworkers",
            ],
            env=environ,
            pass_fds=[passed.fileno()],
            capture_output=True,
            text=True,
            check=True,
        )
    found = json.loads(done.stdout[done.stdout.index("{") :])
    launch = Launch.from_environ(found["environ"])
    assert launch.config.bind == launch.inherited == ("fd://3",)
    assert 3 in found["fds"]
    assert found["environ"]["LISTEN_PID"] == str(found["pid"])


def test_a_deployment_through_a_symbolic_link_is_followed(project: Path, tmp_path: Path) -> None:
    current = tmp_path / "current"
    current.symlink_to(project, target_is_directory=True)
    environ = {"PWD": str(current), "SUCCESSOR": str(project / "successor"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "manage.py", "runworkers", "0"],
        env={**os.environ, **environ},
        cwd=current,
        capture_output=True,
        text=True,
        check=True,
    )
    launch = Launch.from_environ(json.loads(done.stdout[done.stdout.index("{") :])["environ"])
    assert launch.cwd == str(current)
    assert launch.sys_path[0] == str(current)


def test_what_is_odd_is_logged_in_the_form_of_the_log(project: Path) -> None:
    found = become(project, "0", "--max-requests-jitter", "5", "--log-format", "json")
    (entry,) = map(json.loads, found["stderr"])
    assert (entry["event"], entry["id"], entry["setting"]) == ("config_warning", "W001", "max_requests_jitter")


def test_settings_without_a_module_cannot_be_loaded_again(project: Path) -> None:
    program = project / "single.py"
    program.write_text(
        "import sys\nfrom django.conf import settings\nfrom django.core.management import execute_from_command_line\n"
        "settings.configure(INSTALLED_APPS=['djworker'])\nexecute_from_command_line(sys.argv)\n"
    )
    found = run("0", environ={"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": ""}, program=program)
    assert found.code == 2
    assert found.lines[0].startswith("djworker.E012: DJANGO_SETTINGS_MODULE is not set")


# -- without manage.py


def run_module(*arguments: str, environ: Mapping[str, str]) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-m", "djworker", *arguments],
        env={**os.environ, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr.splitlines())


def test_the_module_takes_the_same_options() -> None:
    found = run_module("8001", "-w", "3", "--settings", "testproject.settings", "--print-config", environ={})
    assert found.code == 0
    assert any(line.startswith("bind") and "127.0.0.1:8001" in line for line in found.stdout.splitlines())


def test_the_module_says_what_is_wrong_all_at_once() -> None:
    found = run_module("0", "--wrokers", "3", environ={"DJANGO_SETTINGS_MODULE": ""})
    assert found.code == 2
    assert [line.split(":")[0] for line in found.lines] == ["djworker.E001", "djworker.E012"]
    found = run_module("--workers", environ={"DJANGO_SETTINGS_MODULE": "testproject.settings"})
    assert found.code == 2
    assert found.lines == [
        "usage: djworker [MODULE[:APP]] [ADDR:PORT] [options]",
        "djworker: error: argument -w/--workers: expected one argument",
    ]


def test_settings_that_are_not_there_are_told_in_the_form_of_the_log() -> None:
    found = run_module("0", "--log-format", "json", environ={"DJANGO_SETTINGS_MODULE": "no_such_settings"})
    assert found.code == 3
    (told,) = map(json.loads, found.lines)
    assert (told["event"], told["stage"], told["module"]) == ("not_started", "settings", "no_such_settings")
    found = run_module("--workers", "many", environ={"DJANGO_SETTINGS_MODULE": "no_such_settings"})
    assert found.code == 3, "what is wrong with the options can only be told once there are settings"
    assert "CRITICAL" in found.lines[0]


WSGI = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{settings}")
os.environ["LEFT_BY_THE_MODULE"] = "x"
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
raise RuntimeError("to load the applications is the mold's work")
"""


def become_by_module(folder: Path, *words: str, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """``djworker`` with the successor as its interpreter."""
    start = f"import sys; sys.executable = {str(folder / 'successor')!r}; from djworker.__main__ import main; main(sys.argv[1:])"
    kept = {name: value for name, value in os.environ.items() if name not in {"DJANGO_SETTINGS_MODULE", "PWD"}}
    done = subprocess.run(
        [sys.executable, "-c", start, *words],
        env={**kept, "PYTHONPATH": str(ROOT), **(environ or {})},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {"stderr": done.stderr.splitlines(), **json.loads(done.stdout)}


def test_a_module_chooses_the_settings_and_leaves_nothing_in_the_arbiter(project: Path) -> None:
    (project / "chosen.py").write_text("from testproject.settings import *\nDJWORKER = {'WORKERS': 7}\n")
    (project / "entry.py").write_text(WSGI.format(settings="chosen"))
    found = become_by_module(project, "entry", "0", "--env", "GIVEN=1")
    launch = Launch.from_environ(found["environ"])
    assert found["argv"][-1] == "djworker.arbiter"
    assert set(found["held"]) == set(HANDLED)
    assert (launch.app, launch.settings_module, launch.config.workers) == ("entry", "chosen", 7)
    assert launch.environ == {"GIVEN": "1"}
    assert found["environ"].keys() & {"LEFT_BY_THE_MODULE", "DJANGO_SETTINGS_MODULE", "GIVEN"} == {"GIVEN"}
    assert str(project) in launch.sys_path
    assert found["stderr"] == []


@pytest.mark.parametrize(
    "line, says",
    [
        ("os._exit(0)", "entry ends the process that imports it: exit code 0"),
        ("os.kill(os.getpid(), 9)", "entry ends the process that imports it: SIGKILL"),
        ("sys.exit(0)", "sys.exit(0)"),
        ("raise RuntimeError('not today')", "not today"),
    ],
)
def test_a_module_that_ends_the_process_is_no_success(project: Path, line: str, says: str) -> None:
    (project / "entry.py").write_text(f"import os, sys\n{line}\n")
    done = subprocess.run(
        [sys.executable, "-m", "djworker", "entry", "0", "--print-config", "--log-format", "json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    (told,) = map(json.loads, done.stderr.splitlines())
    assert (told["event"], told["stage"], told["module"]) == ("not_started", "application", "entry")
    assert says in told["message"]


def test_a_module_that_hangs_ends_the_start_with_its_stack(project: Path) -> None:
    (project / "entry.py").write_text("import threading\nthreading.Event().wait()\n")
    done = subprocess.run(
        [sys.executable, "-m", "djworker", "entry", "0", "--boot-timeout", "0.3"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "entry.py" in done.stderr
    assert "entry has not chosen its settings within 0.3 s" in done.stderr


def test_a_folder_of_the_command_line_may_be_a_symbolic_link(project: Path, tmp_path: Path) -> None:
    release = tmp_path / "releases" / "1"
    release.mkdir(parents=True)
    (release / "entry.py").write_text(WSGI.format(settings="testproject.settings"))
    (tmp_path / "current").symlink_to(release, target_is_directory=True)
    for directory in (str(tmp_path / "current"), "current"):
        launch = Launch.from_environ(become_by_module(project, "entry", "0", "--chdir", directory)["environ"])
        assert launch.cwd == str(tmp_path / "current")
        assert launch.sys_path[0] == str(tmp_path / "current")


def test_options_for_gunicorn_that_are_not_read_are_said(project: Path) -> None:
    (project / "entry.py").write_text(WSGI.format(settings="testproject.settings"))
    (project / "gunicorn.conf.py").touch()
    environ = {"GUNICORN_CMD_ARGS": "-w 3"}
    found = become_by_module(project, "entry", "0", "--preload", "--log-format", "json", environ=environ)
    assert [json.loads(line)["id"] for line in found["stderr"]] == ["W030", "W032", "W032"]


@pytest.mark.parametrize(
    "source, environ, warns",
    [
        ('os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.production")', {}, True),
        ('os.environ["DJANGO_SETTINGS_MODULE"] = "testproject.production"', {}, True),
        ('os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")', {}, False),
        (
            'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.production")',
            {"DJANGO_SETTINGS_MODULE": "spoken"},
            False,
        ),
    ],
)
def test_other_settings_in_wsgi_py_are_said(
    project: Path, source: str, environ: dict[str, str], *, warns: bool
) -> None:
    (project / "entry.py").write_text(f"import os\n{source}\napplication = None\n")
    (project / "spoken.py").write_text("from testproject.settings import *\nWSGI_APPLICATION = 'entry.application'\n")
    manage = (project / "manage.py").read_text().replace("testproject.settings", "spoken")
    (project / "manage.py").write_text(manage)
    if not warns and not environ:
        (project / "entry.py").write_text("import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'spoken')\n")
    found = become(project, "0", "--check", "--log-format", "json", environ=environ)
    said = [json.loads(line) for line in found["stderr"]]
    assert [entry["id"] for entry in said] == (["W031"] if warns else [])
    if warns:
        assert "testproject.production" in said[0]["message"]
        assert "spoken is in use" in said[0]["message"]
        assert "djworker entry" in said[0]["message"]


# -- its parts


@pytest.mark.parametrize(
    "module,directory,name",
    [
        ("shop.settings", "/srv/x", "shop"),
        ("config.settings.production", "/srv/shop", "shop"),
        ("config.settings", "/", "config"),
        ("", "/srv/shop", ""),
    ],
)
def test_the_name_of_the_project(module: str, directory: str, name: str) -> None:
    assert interpreter.project_name(module, directory) == name


def test_a_package_that_is_not_installed_is_found_by_the_next_interpreter() -> None:
    assert interpreter.search_path({}) == str(ROOT)
    assert interpreter.search_path({"PYTHONPATH": "/x"}) == f"{ROOT}:/x"
    assert interpreter.search_path({"PYTHONPATH": f"/x:{ROOT}"}) == f"/x:{ROOT}"


def test_the_arbiter_is_started_without_the_agents_of_the_interpreter(tmp_path: Path) -> None:
    for name in ("sitecustomize", "usercustomize"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").touch()
    path = os.pathsep.join(["/x", f"{tmp_path}/sitecustomize", str(ROOT), f"{tmp_path}/usercustomize"])
    assert interpreter.without_agents(path) == f"/x:{ROOT}"
    assert interpreter.without_agents(f"{tmp_path}/sitecustomize") == str(ROOT)


def test_names_in_the_import_path_that_are_no_directories_stay() -> None:
    name = "__editable__.shop-1.0.finder.__path_hook__"
    assert interpreter.logical_path(name, {}) == name
    assert interpreter.logical_path("", {}) == str(Path.cwd())
