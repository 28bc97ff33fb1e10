"""[a child of the mold] The questions that a generation answers before it is trusted.

They are asked of the generation in force, too: what that answers is the measure. A child answers them, so that nothing of the
answering is left in the mold: connections, caches, greenlets, whatever the pages do to the process. Each answer is written as
soon as it is there, so that one that never comes is known by its name.

A child has none of the threads and greenlets that the project has begun. So where workers load the project by themselves, the
process that has loaded it asks itself for the pages, as it may do for a warm-up.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from greenlet import GreenletExit

from djworker import process
from djworker.conf.engine_names import NO_DATABASE
from djworker.ipc import messages
from djworker.ipc.contract import PROBE_TIMEOUT
from djworker.mold import asking, blame, cleanup, named, preflight, request_errors
from djworker.worker import grpc_calls, renewal

#: The watcher's thread writes the stack down so many seconds before the kernel ends the child.
_LAST_WORDS: Final = 0.5
#: Bytes that all tracebacks of one generation take at most: they travel in one message.
_TRACEBACKS: Final = 24 * 1024
#: Hosts that say nothing about where a site is visited.
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "testserver", "0.0.0.0"})  # noqa: S104 - names to compare with, not to listen on
_BAD_REQUEST: Final = 400
_SERVER_ERROR: Final = 500

END: Final = b"[]\n"
#: What is written: ``[question]`` when it is asked, ``[question, bad, text, traceback]`` when it is answered, ``[]`` at the end.
Write = Callable[[bytes], object]
#: A bad answer's text and traceback; None for a good one.
Verdict = tuple[str, str] | None


@dataclass(slots=True)
class Transcript:
    """[mold] What a child has written, as the message that the arbiter gets."""

    about: int
    asked: list[str] = field(default_factory=list)
    answers: dict[str, list[Any]] = field(default_factory=dict)
    stack: str = ""

    def read(self, data: bytes) -> None:
        """Take in all that the child wrote; the last line may be cut."""
        for line in data.split(b"\n")[:-1]:
            match _parse(line):
                case [str(question)]:
                    self.asked.append(question)
                case [str(question), bool(bad), str(text), str(stack)]:
                    self.answers[question] = [bad, text, stack]
                case {"stack": str(stack)}:
                    self.stack = stack

    def close(self, end: str) -> None:
        """The question that was asked and never answered is answered badly: *end* says what became of the child."""
        for question in self.asked:
            self.answers.setdefault(question, [True, end, self.stack])

    def as_message(self, hosts: Sequence[str]) -> messages.Probed:
        """For the arbiter; tracebacks are cut to what one message carries."""
        left = _TRACEBACKS
        for answer in self.answers.values():
            answer[1] = answer[1][: messages.TEXT_LIMIT // 8]
            answer[2] = answer[2][-left:] if left > 0 else ""
            left -= len(answer[2])
        return messages.Probed(self.about, list(hosts), self.answers)


def _parse(line: bytes) -> Any:
    """Two threads of the child's write, and a long line of one may be cut by the other's."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def allowed_hosts() -> list[str]:
    """What this generation allows."""
    from django.conf import settings

    return [str(host) for host in settings.ALLOWED_HOSTS]


def answer(app: Callable[..., Any], paths: Sequence[str], hosts: Sequence[str], write: Write) -> None:
    """[the child] Ask everything.

    Args:
        app: the application.
        paths: of the pages.
        hosts: what the generation in force allows, where it was asked before this one.
        write: gets the answers, each as soon as it is there.
    """
    import gevent

    renewal.take_over_sockets()
    grpc_calls.init()
    greenlet = gevent.spawn(_ask_all, _questions(app, paths, hosts), write, cleanup.hang_up)
    _watch(greenlet, write, PROBE_TIMEOUT - _LAST_WORDS)
    greenlet.get()
    write(END)


def answer_here(
    app: Callable[..., Any],
    paths: Sequence[str],
    hosts: Sequence[str],
    write: Write,
    seconds: float,
    blocked: Callable[[], object],
) -> None:
    """[mold that loads alone] Ask for the pages in this process.

    Args:
        app: the application.
        paths: of the pages.
        hosts: what the generation in force allows, where it was asked before this one.
        write: gets the answers.
        seconds: for all pages; one that waits for longer is given up.
        blocked: called in a native thread where a page does not even let others have their turn in that time. It must end
            the process.
    """
    import gevent

    grpc_calls.init()
    greenlet = gevent.spawn(_ask_all, _pages(app, paths, hosts), write, cleanup.close_connections)
    begun = _watch(greenlet, write, seconds + _LAST_WORDS, blocked)
    greenlet.join(seconds)
    if not greenlet.ready():
        write(_stack_of(greenlet.gr_frame))
        greenlet.kill(timeout=_LAST_WORDS)
    begun.release()
    cleanup.wipe()


def _ask_all(
    questions: Iterable[tuple[str, Callable[[], Verdict]]], write: Write, hang_up: Callable[[], object]
) -> None:
    with _quiet():
        for question, ask in questions:
            write(_line([question]))
            verdict = ask()
            write(_line([question, verdict is not None, *(verdict or ("", ""))]))
        hang_up()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The one who asks tells of it. With a logger its children are silent, which have the exceptions' names."""
    loggers = [logging.getLogger(name) for name in ("django.request", "django.security", "djworker.db")]
    levels = [logger.level for logger in loggers]
    request_errors.end()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        request_errors.install()


def _line(value: list[Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _questions(
    app: Callable[..., Any], paths: Sequence[str], hosts: Sequence[str]
) -> Iterator[tuple[str, Callable[[], Verdict]]]:
    from django.db import connections

    for question, (number, check) in preflight.SETTINGS.items():
        yield question, _guarded(_settled, number, check)
    for alias in connections:
        if connections.settings[alias]["ENGINE"] != NO_DATABASE:
            yield f"database {alias!r}", _guarded(_reach, alias)
    yield from _pages(app, paths, hosts)
    for question, ask in named.questions():
        yield question, _guarded(_is_there, ask)


def _pages(
    app: Callable[..., Any], paths: Sequence[str], hosts: Sequence[str]
) -> Iterator[tuple[str, Callable[[], Verdict]]]:
    host = host_for(allowed_hosts(), hosts)
    for path in paths:
        yield f"GET {path}", _guarded(_get, app, path, host)


def _guarded(question: Callable[..., Verdict], *arguments: Any) -> Callable[[], Verdict]:
    def ask() -> Verdict:
        try:
            return question(*arguments)
        except GreenletExit:  # it was given up, and all questions after it
            raise
        except BaseException as error:  # noqa: BLE001 - that is the answer; a view that calls sys.exit() has one, too
            return blame.sentence(error), traceback.format_exc()

    return ask


def _settled(number: str, check: Callable[[], tuple[str, str]]) -> Verdict:
    """What is silenced is meant to be so."""
    from django.conf import settings

    text, hint = check()
    return (f"{text}: {hint}", "") if text and number not in settings.SILENCED_SYSTEM_CHECKS else None


def _reach(alias: str) -> Verdict:
    from django.db import DatabaseError, connections

    from djworker.db.drivers import connect_errors

    connection = connections[alias]
    try:
        if connection.vendor in ("postgresql", "mysql", "sqlite"):
            with connection.cursor() as cursor:  # a pool connects with the first statement
                cursor.execute("SELECT 1")
        else:
            connection.ensure_connection()
    except DatabaseError as error:
        why = connect_errors.explain(error, connections.settings[alias], alias)
        return str(why), traceback.format_exc()
    return None


def _is_there(ask: Callable[[], None]) -> Verdict:
    ask()
    return None


def _get(app: Callable[..., Any], path: str, host: str) -> Verdict:
    extra = {"djworker.probe": True, "HTTP_HOST": host, "HTTP_USER_AGENT": "djworker probe"}
    reply = asking.follow(app, path, **extra)
    if reply.code < _SERVER_ERROR and reply.code != _BAD_REQUEST:
        return None
    return f"{reply} (Host {host})", reply.traceback


def host_for(own: Sequence[str], measure: Sequence[str]) -> str:
    """The host to ask with: one that both generations allow where there is one, else one that the site is visited by.

    Args:
        own: ``ALLOWED_HOSTS`` of the generation that is asked.
        measure: those of the generation that it is measured by; empty for none.
    """
    from django.http.request import validate_host

    candidates = [_as_host(host) for host in (*own, *measure) if host != "*"]
    both = [host for host in candidates if validate_host(host, own) and (not measure or validate_host(host, measure))]
    visited = [host for host in map(_as_host, measure) if host != "*" and host not in _LOCAL]
    public = [host for host in both if host not in _LOCAL]
    if public or visited:
        return (public or visited)[0]
    return (both or candidates or ["localhost"])[0]


def _as_host(pattern: str) -> str:
    """A name that the pattern allows."""
    return pattern.removeprefix(".")


def _stack_of(frame: Any) -> bytes:
    return json.dumps({"stack": "".join(traceback.format_stack(frame))}).encode() + b"\n"


def _watch(greenlet: Any, write: Write, seconds: float, then: Callable[[], object] = bool) -> Any:
    """A thread of the system's writes down where it hangs, unless the lock that is returned was released by then."""
    start = process.unpatched("_thread", "start_new_thread")
    main = process.unpatched("_thread", "get_ident")()
    going_on = process.unpatched("_thread", "allocate_lock")()
    going_on.acquire()

    def bark() -> None:
        if not going_on.acquire(timeout=seconds):
            write(_stack_of(greenlet.gr_frame or sys._current_frames().get(main)))  # noqa: SLF001 - the only way to another thread's
            then()

    start(bark, ())
    return going_on
