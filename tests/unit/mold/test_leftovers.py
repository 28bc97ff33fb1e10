"""What a mold must not fork, found in a process that is patched like a mold."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def found_in_a_mold(code: str, folder: Path, what: str = "watch.found()") -> list[str]:
    """Run code in a patched interpreter; what the watch then finds."""
    script = f"""
from djworker.mold.patches import forks, patching
patching.patch_all()
forks.Guard(descriptor_limit=256).install()  # as a mold: gevent alone may miss the end of a child that is quick
import sys
from djworker.mold import cleanup
from djworker.mold.leftovers import LeftoversWatch, hang_up
from django.conf import settings
settings.configure(DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {str(folder / "db")!r}}}}})
import django
watch = LeftoversWatch()
django.setup()
def project():
    pass
{textwrap.indent(textwrap.dedent(code), "    ")}
with watch.connections():
    kept = project()
cleanup.wipe()
print("\\n".join(map(str, {what})), flush=True)
import os
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


THREAD = "import threading, time; t = threading.Thread(target=time.sleep, args=(9,), name='worm'); t.start(); return t"
NATIVE_THREAD = """
from gevent.monkey import get_original as g
def burrow(): g('time', 'sleep')(9)
g('_thread', 'start_new_thread')(burrow, ())
g('time', 'sleep')(0.2)  # a thread that has not begun to run has no frame
"""


@pytest.mark.parametrize(
    "code, says",
    [
        (THREAD, "thread 'worm'"),
        ("import gevent\ndef crawl(): gevent.sleep(9)\nreturn gevent.spawn(crawl)", "crawl"),
        ("import gevent; return gevent.spawn_later(9, print)", "greenlet 'print'"),
        (
            "from django.db import transaction; transaction.atomic().__enter__()",
            "a connection to database 'default', inside",
        ),
        (NATIVE_THREAD, "native thread"),
        ("import concurrent.futures as f; pool = f.ThreadPoolExecutor(); pool.submit(print); return pool", "thread '"),
        (
            "import multiprocessing as m, time; m.get_context('fork').Process(target=time.sleep, args=(9,)).start()",
            "(ForkProcess-1), started at",
        ),
        ("import subprocess as s; return s.Popen(['sleep', '9'])", "(sleep 9), started at"),
        ("import subprocess as s; s.Popen('exec sleep 9', shell=True)", "(exec sleep 9), started at"),
    ],
)
def test_what_must_not_be_forked(tmp_path: Path, code: str, says: str) -> None:
    found = found_in_a_mold(code, tmp_path)
    assert any(says in line for line in found), found


@pytest.mark.parametrize(
    "code",
    [
        "",
        "from django.db import connection; connection.ensure_connection()",
        "from django.db import connection; other = connection.copy(); other.ensure_connection(); return other",
        "import threading; t = threading.Thread(target=int); t.start(); t.join()",
        "import gevent; gevent.spawn(int).join()",
        "import gevent; g = gevent.spawn_later(9, print); g.kill()",
        "import threading; return threading.Lock(), threading.Event(), threading.local()",
        "import multiprocessing as m; p = m.get_context('fork').Process(target=int); p.start(); p.join(); return p",
        "import subprocess as s; return s.run(['true']), s.check_output('true')",
        """
import contextlib, os, subprocess as s
p = s.Popen('true')
with contextlib.suppress(ChildProcessError):  # gevent's loop has buried it already
    os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)
return p
""",
        "import subprocess as s; p = s.Popen(['sleep', '9']); p.kill(); p.wait(); return p",
        """
import contextlib, subprocess as s
with contextlib.suppress(OSError): s.Popen(['no-such-program'])
""",
    ],
)
def test_what_may_be_forked(tmp_path: Path, code: str) -> None:
    assert [line for line in found_in_a_mold(code, tmp_path) if line] == []


@pytest.mark.parametrize("closed, found", [(False, 1), (True, 0)])
def test_open_sockets_of_zeromq_must_not_be_forked(tmp_path: Path, closed: bool, found: int) -> None:  # noqa: FBT001 - a parameter
    """They are known by the place of their class; to install the library for that would be much."""
    folder = tmp_path / "zmq/backend/cython"
    folder.mkdir(parents=True)
    (folder / "_zmq.py").write_text(f"class Socket:\n    closed = {closed}\n")
    code = f"sys.path.insert(0, {str(tmp_path)!r})\nfrom zmq.backend.cython._zmq import Socket\nreturn Socket()"
    lines = [line for line in found_in_a_mold(code, tmp_path) if line]
    assert len(lines) == found
    assert all(line.startswith("Socket of zmq") for line in lines)


@pytest.mark.parametrize("refers", [True, False])
def test_what_nothing_refers_to_any_more_may_be_forked(tmp_path: Path, refers: bool) -> None:  # noqa: FBT001 - a parameter
    """A collection ends it, and none has run while the project loaded."""
    code = f"""
    global project, Config
    import gc, types
    from djworker.mold import project
    from djworker.conf.table import Config
    gc.disable()
    module = sys.modules["zmq.backend.cython._zmq"] = types.ModuleType("zmq.backend.cython._zmq")
    class Socket: pass
    module.Socket = Socket
    cycle = [Socket()]
    cycle.append(cycle)
    return {refers} and cycle
    """
    assert found_in_a_mold(code, tmp_path, "[project._clear(watch, Config()), watch.alone][1:]") == [str(refers)]


def test_lazy_objects_stay_lazy(tmp_path: Path) -> None:
    """Looking for greenlets among all objects must not wake the project's lazy ones."""
    code = """
    from django.utils.functional import SimpleLazyObject
    def wake(): print("woken")
    return SimpleLazyObject(wake)
    """
    assert "woken" not in found_in_a_mold(code, tmp_path)


UNIX = "path = tempfile.mkdtemp() + '/s'; server = socket.socket(socket.AF_UNIX); server.bind(path); server.listen()\n"
LISTENS = """
import socket, tempfile
server = socket.create_server(("127.0.0.1", 0))
"""


@pytest.mark.parametrize(
    "code, says",
    [
        ("client = socket.create_connection(server.getsockname()); return client, server", "127.0.0.1:"),
        (UNIX + "client = socket.socket(socket.AF_UNIX); client.connect(path); return client, server", "unix:/"),
        ("return socket.socketpair()", ""),
        ("import asyncio; return asyncio.new_event_loop()", ""),
        ("try: socket.socket(99)\nexcept OSError as error: return error", ""),
        ("return socket.socket(), server", ""),
        ("socket.create_connection(server.getsockname()).close(); return server", ""),
        ("log = socket.socket(type=socket.SOCK_DGRAM); log.connect(('127.0.0.1', 514)); return log", ""),
        ("lost = [socket.create_connection(server.getsockname())]; lost.append(lost); return server", ""),
    ],
)
def test_connections_to_others_are_ended_and_told_of(tmp_path: Path, code: str, says: str) -> None:
    (peer,) = found_in_a_mold(LISTENS + code, tmp_path, "(peer for peer, _library in hang_up())") or [""]
    assert peer.startswith(says)
    assert bool(peer) == bool(says)


def test_what_waited_in_a_hub_that_has_ended_waits_in_the_next(tmp_path: Path) -> None:
    """Of a lock or an event that was waited for while loading, each worker has a copy."""
    code = """
    import threading
    event, lock, threads = threading.Event(), threading.Lock(), []
    for what in (lambda: event.wait(9), lambda: lock.acquire() and lock.release()):
        threads.append(threading.Thread(target=what))
    with lock:
        for thread in threads:
            thread.start()
    event.set()
    for thread in threads:
        thread.join()
    event.clear()
    def ask():
        import gevent
        gevent.spawn(event.set)
        with lock:
            gevent.spawn(lock.acquire)
        return [str(event.wait(9))]
    return ask
    """
    assert found_in_a_mold(code, tmp_path, "[cleanup.destroy_hub(), *kept()][1:]") == ["True"]


def test_threads_of_the_hub_end_with_it(tmp_path: Path) -> None:
    code = """
    import socket, gevent
    for number in range(5):
        gevent.spawn(socket.getaddrinfo, "localhost", number)
    gevent.wait()
    gevent.get_hub().threadpool.apply(int)
    """
    assert found_in_a_mold(code, tmp_path, "watch.found()") == [""]
    assert found_in_a_mold(
        code, tmp_path, "[cleanup.destroy_hub(), *watch.found(), len(sys._current_frames())][1:]"
    ) == ["1"]
