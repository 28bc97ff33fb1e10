"""``djworker`` and ``python -m djworker [MODULE[:APP]] [ADDR:PORT] [options]``: ``runworkers`` without ``manage.py``.

``manage.py`` loads the settings and every application before it looks at the command's name, so what is wrong there ends it
with Python's own traceback and exit code 1. Here only the settings are read, for the options in them, and the rest is left to
the mold: whatever does not load is an event of the log, with its module, and the exit code is 3.

With a module, as gunicorn has it, that module chooses the settings. A child imports it, up to the place where it sets Django
up, and decides the configuration. What the module leaves in its process (threads, variables of the environment that the next
generation is to read anew) ends with the child.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import django
from django.conf import ENVIRONMENT_VARIABLE, settings

from djworker import log, process
from djworker.conf.table import Config
from djworker.ipc.contract import EXIT_BOOT, STACKS_WITHIN
from djworker.ipc.launch import Launch
from djworker.management import refusal
from djworker.management.commands.runworkers import Command, StartRequest, become
from djworker.management.refusal import config_without_settings
from djworker.mold import blame, named_settings
from djworker.smoke import command as smoke
from djworker.start import interpreter
from djworker.start.application import ApplicationError, Target, suggestion

logger = logging.getLogger("djworker")

PROGRAM: Final = "djworker"
IMPORT_GUNICORN: Final = "import-gunicorn"


class _Enough(BaseException):
    """The module has come to where it sets Django up: what it does before, it has done."""


class _Pipe:
    """[child] What the parent hears it through; its end is the child's, not that of processes that the module begins."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def leave(self) -> None:
        """[the child's child] Close it. Its own children have no part in it either, and may have another file there."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class ModuleCommand(Command):
    """[arbiter to be] ``runworkers`` that may be given the application."""

    takes_app = True


def run() -> None:
    """Run the console script."""
    main(sys.argv[1:])


def main(arguments: Sequence[str]) -> None:
    """Choose the settings, then do what ``manage.py runworkers`` does."""
    if arguments[:1] == [IMPORT_GUNICORN]:
        from djworker.start import gunicorn_import  # noqa: PLC0415 - no server has a use for it

        sys.exit(gunicorn_import.main(arguments[1:], os.environ))
    if smoke.asks_for_smoke(arguments):
        sys.exit(smoke.main(["-P", "-m", PROGRAM], arguments))
    command = ModuleCommand()
    request = command.read([PROGRAM, "", *arguments])
    if request.app and not request.means_otherwise:
        _decide_in_child(command, request)
    if not request.means_otherwise:
        _guarded("settings", _read_settings, request)
    command.run(request)


def _guarded(stage: str, step: Callable[[], object], request: StartRequest) -> None:
    """A failure in there ends the start."""
    try:
        step()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - settings are a program, and may end in every way there is
        _refuse(stage, error, request)


def _read_settings() -> None:
    if os.environ.get(ENVIRONMENT_VARIABLE):  # where it is missing, the command says so, with all else that is wrong
        interpreter.find_configurations(os.environ)
        _hide_lazy_objects()
        settings.INSTALLED_APPS  # noqa: B018 - this is how Django itself loads them


def _refuse(stage: str, error: BaseException, request: StartRequest) -> NoReturn:
    """Say it as the mold would, in the form that the log was to have."""
    what = f"{request.app} does not load" if stage == "application" else "the settings do not load"
    config = config_without_settings(request.options)
    refusal.say(config, what, stage, _module_to_blame(error, request), _reason(error, request), error)
    sys.exit(EXIT_BOOT)


def _module_to_blame(error: BaseException, request: StartRequest) -> str:
    if isinstance(error, ApplicationError):
        return request.app.partition(":")[0]
    found = blame.module_of(error)
    # Django judges some settings as soon as it has them.
    return os.environ.get(ENVIRONMENT_VARIABLE, found) if found == "django.conf" else found


def _reason(error: BaseException, request: StartRequest) -> str:
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r})"
    if isinstance(error, ApplicationError):
        return str(error)
    found = blame.sentence(error)
    place = f"it was looked for in {request.surroundings.cwd}, among others: --chdir or --pythonpath name another place"
    settings_module = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if _is_part_of(error, request.app):
        return f"{found}; {place}"
    if _is_part_of(error, settings_module):
        todo = f"a module is wanted: {module}" if (module := suggestion(settings_module)) else place
        return f"{ENVIRONMENT_VARIABLE} names {settings_module!r}: {found}; {todo}"
    return "; ".join(filter(None, (found, named_settings.not_installed(error))))


def _is_part_of(error: BaseException, module: str) -> bool:
    """Whether what was not found is the module itself, or a package that it is in."""
    return isinstance(error, ModuleNotFoundError) and bool(error.name) and f"{module}.".startswith(f"{error.name}.")


# -- with a module that chooses the settings


def _decide_in_child(command: Command, request: StartRequest) -> NoReturn:
    """Decide in a child of this process, then become what it says; where it ends without a word, end as it did."""
    sys.stdout.flush()
    sys.stderr.flush()
    read, write = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(read)
        process.die_with(parent)
        os.register_at_fork(after_in_child=_Pipe(write).leave)
        _leave(_decide, command, request, write)
    os.close(write)
    config = config_without_settings(request.options)
    if not select.select([read], [], [], config.boot_timeout)[0]:
        _end_hanging(child, request, config)
    with os.fdopen(read, "rb") as answer:
        text = answer.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if text and code == 0 and (decided := json.loads(text)):
        become(decided["module"], Launch.from_json(decided["launch"]))
    if code < 0 or (code == 0 and not text):
        _say_not_started(request, config, f"ends the process that imports it: {process.describe(code)}")
    sys.exit(code)


def _end_hanging(child: int, request: StartRequest, config: Config) -> NoReturn:
    """Have the child write its stack, and end both."""
    os.kill(child, signal.SIGQUIT)
    time.sleep(STACKS_WITHIN)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    late = f"has not chosen its settings within {config.boot_timeout:g} s (boot_timeout); its stack is above"
    _say_not_started(request, config, late)


def _say_not_started(request: StartRequest, config: Config, why: str) -> NoReturn:
    log.configure(config.log_level, config.log_format, "command")
    fields = {"stage": "application", "module": request.app.partition(":")[0], "error": why}
    log.event(logger, logging.CRITICAL, "not_started", f"{request.app} {why}", **fields)
    sys.exit(EXIT_BOOT)


def _leave(step: Callable[..., object], *arguments: object) -> NoReturn:
    """[child] Do it, and end the process: no thread and no exit handler of the project's keeps it.

    The processes that the module has begun end with it: the mold begins others.
    """
    code: object = 1
    try:
        step(*arguments)
        code = 0
    except SystemExit as error:
        code = 0 if error.code is None else error.code
    except KeyboardInterrupt:  # the parent has it too
        code = EXIT_BOOT
    except BaseException:  # noqa: BLE001 - nothing of it may reach the parent's code
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    process.terminate_children()
    os._exit(code if isinstance(code, int) else 1)


def _decide(command: Command, request: StartRequest, write: int) -> None:
    """[child] Import the module, read the settings that it has chosen, decide, and tell the parent."""

    def tell(module: Sequence[str], launch: Launch) -> NoReturn:
        text = json.dumps({"module": list(module), "launch": launch.to_json()})
        with os.fdopen(write, "w") as answer:
            answer.write(text)
        raise SystemExit(0)

    command.become = tell
    faulthandler.register(signal.SIGQUIT, all_threads=True, chain=False)
    _guarded("application", lambda: _import_up_to_setup(request.app), request)
    _guarded("settings", _read_settings, request)
    command.run(request)
    with os.fdopen(write, "w") as answer:
        answer.write("{}")  # to print was all that was asked for


def _hide_lazy_objects() -> None:
    """Keep those that there are from gevent's ``patch_all()`` of the project, which looks at all objects for locks.

    A look at a lazy one of Django's (settings, the default storage) loads the settings: too early, or within their own load,
    where it waits for ever.
    """
    gc.freeze()


def _import_up_to_setup(app: str) -> None:
    """[child] Run the module until it sets Django up: to load the applications is the mold's work."""
    reached = False

    def enough(*_args: object, **_kwargs: object) -> NoReturn:
        nonlocal reached
        reached = True
        raise _Enough

    _hide_lazy_objects()
    original, django.setup = django.setup, enough
    try:
        Target.parse(app).load()
    except _Enough:
        pass
    except Exception:
        if not reached:  # else the module has caught ours, and failed for want of an application
            raise
    finally:
        django.setup = original


if __name__ == "__main__":
    main(sys.argv[1:])
