"""Run test functions in an interpreter that gevent patched before anything else, as a worker is.

pytest itself stays unpatched. A conftest says for its directory:

    from tests.db.patched import pytest_pyfunc_call  # noqa: F401

Then each test *module* has an interpreter of its own; its tests run there one after the other, each in a new greenlet.
Fixtures are made in pytest's process and pickled: server and proxy handles work on the other side.
A failure comes back as the traceback; so does an exception that only a finalizer saw.

They are forked (`tests.forking`) off a process that has imported what all of them would, but nothing that chooses a client
library or an engine.
A module that wants an interpreter in which nothing has been imported says `FRESH_INTERPRETER = True`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from djworker.mold.patches import patching

    patching.patch_all()

import atexit
import contextlib
import faulthandler
import gc
import importlib
import os
import pickle
import struct
import subprocess
import sys
import traceback
import warnings
from typing import IO, TYPE_CHECKING, Any

from tests import forking

if TYPE_CHECKING:
    import pytest

# For one test, then all stacks are shown and the interpreter ends: shortly before pytest would end the test. A fuzz may be
# told to take longer.
SECONDS = 110 + float(os.environ.get("FUZZ_SECONDS", "0"))
_LENGTH = struct.Struct("!Q")
_NAME = "tests.db.patched"
# What every interpreter imports sooner or later. No settings are read for it, and no connection, thread or hub is made.
_SHARED = (
    "pytest",
    "django.core.handlers.base",
    "django.db.backends.base.base",
    "django.db.backends.base.client",
    "django.db.backends.base.creation",
    "django.db.backends.base.introspection",
    "django.db.backends.base.schema",
    "djworker.conf.pool_resolve",
    "djworker.db.drivers.turns",
    "djworker.db.lease.registry",
    "djworker.db.lease.connector",
    "djworker.db.lease.cursor",
    "djworker.db.lease.receivers",
    "djworker.db.lease.raw_connection",
    "tests.db.drivers.target",
    "tests.db.lease.site",
)


def write(stream: IO[bytes], thing: object) -> None:
    """Send one pickled object."""
    data = pickle.dumps(thing)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def read(stream: IO[bytes]) -> Any:
    """Receive one. Raises EOFError when the other side is gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    return pickle.loads(stream.read(*_LENGTH.unpack(head)))


class PatchedInterpreter:
    """pytest's side."""

    def __init__(self, *, fresh: bool = False) -> None:
        commands, ours = os.pipe()
        ours_too, answers = os.pipe()
        try:
            self._process: forking.Forked | subprocess.Popen[bytes] = (
                subprocess.Popen(forking.command(_NAME), stdin=commands, stdout=answers, cwd=forking.ROOT)
                if fresh
                else forking.Forked(_NAME, commands, answers)
            )
        finally:
            os.close(commands)
            os.close(answers)
        self._commands, self._answers = os.fdopen(ours, "wb"), os.fdopen(ours_too, "rb")

    def call(self, module: str, function: str, arguments: dict[str, Any]) -> str:
        """Run the function there; empty, or what went wrong."""
        try:
            write(self._commands, (module, function, arguments))
            trouble: str = read(self._answers)
        except (EOFError, BrokenPipeError):
            return f"the patched interpreter died: status {self._process.wait()}"
        return trouble

    @property
    def alive(self) -> bool:
        """Whether it can run another test."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # of an order that it did not read
            self._commands.close()
        self._answers.close()


_interpreters: dict[str, PatchedInterpreter] = {}


def interpreter(module: str) -> PatchedInterpreter:
    """The interpreter of this test module, or family of tests in it."""
    known = _interpreters.get(module)
    if known is None or not known.alive:
        fresh = getattr(sys.modules.get(module.partition(" ")[0]), "FRESH_INTERPRETER", False)
        known = _interpreters[module] = PatchedInterpreter(fresh=fresh)
        atexit.register(known.close)
    return known


def close_interpreters(family: str) -> None:
    """End those of a test module: `tests.db.lease.test_lease`, or `tests.db.lease.test_lease psycopg3 …`."""
    for name in [name for name in _interpreters if name.partition(" ")[0] == family]:
        known = _interpreters.pop(name)
        atexit.unregister(known.close)
        known.close()


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Run the test there instead of here."""
    import pytest

    wanted = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    module = pyfuncitem.module.__name__
    trouble = interpreter(module).call(module, pyfuncitem.originalname, arguments)
    if trouble:
        pytest.fail(trouble, pytrace=False)
    return True


class Runner:
    """The patched side."""

    def __init__(self, commands: IO[bytes], answers: IO[bytes]) -> None:
        self.commands, self.answers = commands, answers
        self.unseen: list[str] = []

    def run(self, module: str, function: str, arguments: dict[str, Any]) -> str:
        """One test; empty, or what went wrong."""
        import gevent

        self.unseen.clear()
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        outcome = gevent.spawn(self.attempt, module, function, arguments).get()
        gc.collect()
        faulthandler.cancel_dump_traceback_later()
        return "\n".join(filter(None, [outcome, *self.unseen]))

    @staticmethod
    def attempt(module: str, function: str, arguments: dict[str, Any]) -> str:
        """Call it; the traceback as text."""
        try:
            getattr(importlib.import_module(module), function)(**arguments)
        except BaseException:  # noqa: BLE001 - a gevent.Timeout is none of Exception's
            return traceback.format_exc()
        return ""

    def unraisable(self, event: Any) -> None:
        """An exception in a finalizer is a failure too, a ResourceWarning among them.

        But not a kill: a greenlet that is killed twice may just close a server-side cursor in the finalizer of a generator.
        """
        if event.exc_type.__name__ == "GreenletExit":
            return
        lines = traceback.format_exception(event.exc_type, event.exc_value, event.exc_traceback)
        self.unseen.append(f"ignored in {event.object!r}: {''.join(lines)}")

    def serve(self) -> None:
        """Until pytest closes the pipe."""
        sys.unraisablehook = self.unraisable
        while True:
            try:
                command = read(self.commands)
            except EOFError:
                return
            write(self.answers, self.run(*command))


def be_template(fd: int) -> None:
    """Import what all share, and fork. Returns in each child."""
    from djworker.mold import cleanup

    for name in _SHARED:
        importlib.import_module(name)
    cleanup.destroy_hub()  # Django's import makes one
    forking.serve_forks(fd)


def main() -> None:
    """Keep the pipes for ourselves: what a test prints goes to stderr."""
    warnings.simplefilter("error")
    if sys.argv[1:]:
        be_template(int(sys.argv.pop()))
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Runner(commands, answers).serve()


if __name__ == "__main__":
    main()
