"""What djworker asks of the operating system beyond the standard library: a short list, each with the reason for it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, Final, NoReturn

from djworker.units import NANOSECONDS

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PR_GET_PDEATHSIG: Final = 2
_PR_SET_CHILD_SUBREAPER: Final = 36
_SS_DISABLE: Final = 2  # sigaltstack(2)

LINUX: Final = sys.platform == "linux"

#: Characters of a program's command line.
_MOST_OF_WORDS: Final = 80

#: The limit of memory, and what is used of it, by the second version of cgroups and by the first.
_CGROUPS: Final = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def unpatched(module: str, name: str) -> Any:
    """Return a function as it was before gevent replaced it, without importing gevent.

    gevent's ``poll``, ``sleep`` and ``close`` run the hub, which the mold must not, and which a native thread cannot.

    Args:
        module: that of the standard library.
        name: the function's there.
    """
    monkey = sys.modules.get("gevent.monkey")
    return getattr(import_module(module), name) if monkey is None else monkey.get_original(module, name)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def become_subreaper() -> bool:
    """Adopt orphaned grandchildren, so that workers which the mold forks become the arbiter's own children.

    Returns:
        False where the system has no such thing (macOS): there the arbiter starts one mold per worker.
    """
    if not LINUX or os.environ.get("_DJWORKER_NO_SUBREAPER"):
        return False
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    return True


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when *parent* dies, so that no child outlives the arbiter, not even with a blocked hub.

    To be called after a change of user (which clears it) and after re-parenting (the signal belongs to the parent of that
    moment). Does nothing where the kernel has no such service; EOF on the channel is the second net.
    """
    if not LINUX:
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died between the fork and the call
        os._exit(1)


@contextlib.contextmanager
def keeping_parent_death_signal() -> Iterator[None]:
    """A change of user within takes away the signal that our supervisor has asked for; give it back afterwards."""
    before = ctypes.c_int(0)
    if LINUX:
        _prctl(_PR_GET_PDEATHSIG, ctypes.addressof(before))
    try:
        yield
    finally:
        if before.value:
            _prctl(_PR_SET_PDEATHSIG, before.value)


def wait_for_parent(parent: int, limit: float = 5.0) -> None:
    """Wait until this process, just orphaned by its middle parent, has been adopted by *parent*.

    Raises:
        TimeoutError: *parent* did not adopt it.
    """
    deadline = time.monotonic() + limit
    while os.getppid() != parent:
        if time.monotonic() > deadline:
            msg = f"process {os.getpid()} was adopted by {os.getppid()}, not by the arbiter {parent}"
            raise TimeoutError(msg)
        os.sched_yield()  # microseconds; a patched time.sleep would need the hub


class _Stack(ctypes.Structure):
    """Linux' ``stack_t``."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def leave_signal_stack() -> None:
    """Have signal handlers run on the ordinary stack, also where faulthandler is enabled (``-X dev``).

    It makes a small stack for crashes, in the heap, and since 3.10 CPython runs all its handlers there. Those of signals that
    come together interrupt one another: the fifth may write over what lies below that stack, and at the sixth the kernel
    ends the process. faulthandler still tells of every crash but an overflow of the stack itself.
    """
    if LINUX:  # macOS has room for dozens
        ctypes.CDLL(None).sigaltstack(ctypes.byref(_Stack(flags=_SS_DISABLE)), None)


def reap() -> list[tuple[int, int]]:
    """Every child that is dead by now, as (pid, exit code or minus the signal). We may be PID 1, so none is left."""
    dead: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return dead
        if pid == 0:
            return dead
        dead.append((pid, os.waitstatus_to_exitcode(status)))


def ignore_signals(numbers: Iterable[int]) -> None:
    """Do nothing at these signals. Programs that this process starts do at them what they would do anyway.

    To ignore them with SIG_IGN would be inherited through ``execve``: nohup(1) is made of it.
    """
    for number in numbers:
        signal.signal(number, _nothing)
        signal.siginterrupt(number, False)


def _nothing(_number: int, _frame: object) -> None:
    """Take a signal."""


def kill(pid: int, number: int) -> None:
    """Send a signal to a child, which may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def end_child(code: object = 0) -> NoReturn:
    """End a process that a worker's code forked. Exit handlers are not run: they are copies of the worker's.

    Args:
        code: as for ``sys.exit``.
    """
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit((code or 0) & 0xFF)


def end_child_with(error: BaseException) -> NoReturn:
    """End such a process as an exception ends a program that does not catch it."""
    if isinstance(error, SystemExit):
        end_child(error.code)
    traceback.print_exception(error)
    end_child(1)


def children() -> list[int]:
    """Return this process's children, as far as the system tells."""
    found = []
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
                found += [int(pid) for pid in file.read().split()]
    return found


def words_of(args: Any) -> str:
    """A program's command line for people, as `subprocess.Popen` takes it; its beginning where it is long."""
    words = [args] if isinstance(args, str | bytes | os.PathLike) else list(args)
    return " ".join(os.fsdecode(word) for word in words)[:_MOST_OF_WORDS]


def terminate_children() -> None:
    """Ask this process's children to end; it does not wait for them."""
    for pid in children():
        kill(pid, signal.SIGTERM)


def is_our_child(pid: int) -> bool:
    """Whether the kernel says that *pid* is a child of this process, alive or not yet reaped. No other is to be signalled."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (OSError, OverflowError):  # ECHILD; EINVAL for 0 and less, which mean groups of processes elsewhere
        return False
    return True


def runs_as(pid: int, uid: int) -> bool:
    """Whether a process runs with the rights of *uid*, as far as /proc tells."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            found = next((line.split()[1:] for line in file if line.startswith("Uid:")), [])
    except OSError:
        return True
    return set(found) <= {str(uid)}


def open_standard_streams() -> None:
    """Have something at the descriptors 0, 1 and 2. Where they are closed, the next file or socket would be the log's."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


def resident_bytes() -> int:
    """Resident memory of this process, what it shares with others included; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def pss_bytes(pid: int | str = "self") -> int:
    """Memory of a process, in which a page that several share counts in parts; 0 where the system does not tell.

    The kernel walks all its pages: a millisecond for each hundred MiB.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("Pss:")), 0)
    except OSError:  # another user's, gone, or no /proc
        return 0


def runnable_seconds(pid: int) -> float | None:
    """For how long the main thread of a process has run, or waited for a processor; None where the system does not tell.

    See proc(5) and the kernel's sched-stats: nanoseconds that it ran, and nanoseconds that it waited to run.
    """
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            ran, waited, _ = file.read().split()
    except (OSError, ValueError):  # gone, or a kernel without these numbers
        return None
    return (int(ran) + int(waited)) / NANOSECONDS or None


def free_memory() -> int:
    """Bytes that more processes could take before something is swapped or ended: the machine's, or what the cgroup leaves."""
    found = [_available()]
    for limit, used in _CGROUPS:
        # Another version of cgroups, no limit ("max"), or not mounted.
        with (
            contextlib.suppress(OSError, ValueError),
            open(limit, encoding="ascii") as file,
            open(used, encoding="ascii") as other,
        ):
            found.append(max(0, int(file.read()) - int(other.read())))
    return min(found)


def _available() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:")), sys.maxsize)
    except OSError:
        return sys.maxsize


def set_title(title: str) -> None:
    """The name that ``ps`` shows."""
    if titles := _titles():
        titles.setproctitle(title)


def make_room_for_title() -> None:
    """Find now where a title is to be written.

    ``setproctitle`` finds it once, by the place of the first variable of the environment. A project may set just that one.
    """
    if titles := _titles():
        titles.getproctitle()


def _titles() -> Any:
    """The one package in the arbiter that is not the standard library: see docs/decisions. None where it is not found."""
    try:
        import setproctitle  # noqa: PLC0415 - as said
    except ImportError:  # a launcher with an import path of its own may not have it where we look
        return None
    return setproctitle


def describe(code: int) -> str:
    """An exit code in words: ``exit code 3``, ``SIGKILL``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def raise_descriptor_limit() -> int:
    """Lift the soft limit of open descriptors to the hard one: thousands of idle connections need it.

    Returns:
        The soft limit before. Programs that a view starts get it back: ``select`` has no room for a descriptor above 1023.
    """
    import resource  # noqa: PLC0415 - absent on platforms where a check should still import this module

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS reports a hard limit that it then refuses.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft
