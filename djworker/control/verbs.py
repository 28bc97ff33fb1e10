"""Every verb, declared once: the command line, the arbiter's check of a request and the reference page come from this table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from djworker.conf.table import MOST_WORKERS
from djworker.ipc.scoreboard import SLOTS

__all__ = ["LEVELS", "VERBS", "Argument", "BadRequestError", "Verb", "read_arguments"]

#: Slots of the scoreboard: draining workers have one, too.
HIGHEST_SLOT: Final = SLOTS - 1
#: Seconds for a reload to be decided where ``--timeout`` says nothing, and at most.
RELOAD_TIMEOUT: Final = 600.0
LONGEST_WAIT: Final = 3600.0
#: Seconds of a pause where ``--timeout`` says nothing, and at most: a fail-over that takes longer is an outage.
PAUSE_TIMEOUT: Final = 30.0
LONGEST_PAUSE: Final = 600.0
#: Seconds between two looks of ``top``.
TOP_INTERVAL: Final = 1.0
#: Characters of a text.
LONGEST_TEXT: Final = 200
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


class BadRequestError(ValueError):
    """A verb that is not known, or arguments that it does not take; the text says which, and what it takes."""


@dataclass(frozen=True, slots=True)
class Argument:
    """[client, arbiter] One argument of a verb.

    flag: it is an option of the command line (``--wait``), else a word. kind: ``int``, ``float``, ``str`` or ``bool``. lowest,
    highest: bounds of a number. choices: of a text. default: where it is not given; a word without a default must be.
    """

    name: str
    kind: type
    help: str
    flag: bool = False
    optional: bool = False
    default: Any = None
    lowest: float = -math.inf
    highest: float = math.inf
    choices: tuple[str, ...] = ()
    metavar: str = ""

    @property
    def takes(self) -> str:
        """What it takes, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind in (int, float):
            what = "a whole number" if self.kind is int else "a number"
            if self.highest == math.inf:
                return f"{what} of at least {self.lowest:g}"
            return f"{what} from {self.lowest:g} to {self.highest:g}"
        return {bool: "true or false", str: f"a text of at most {LONGEST_TEXT} printable characters"}[self.kind]

    def fits(self, value: object) -> bool:
        """Whether it may have this value."""
        if value is None:
            return self.optional or self.flag
        if self.kind is bool:
            return isinstance(value, bool)
        if self.kind is str:
            return self._fits_text(value)
        if isinstance(value, bool) or not isinstance(value, int if self.kind is int else (int, float)):
            return False
        return self.lowest <= value <= self.highest  # NaN is not

    def _fits_text(self, value: object) -> bool:
        if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT or not value.isprintable():
            return False
        return not self.choices or value in self.choices


@dataclass(frozen=True, slots=True)
class Verb:
    """[client, arbiter] One thing that a server can be asked. reads: it changes nothing, and has ``--json``."""

    name: str
    help: str
    arguments: tuple[Argument, ...] = ()
    reads: bool = False
    #: Not a command of its own: clients ask it for their own ends.
    hidden: bool = False
    #: Only a client knows it, which asks other verbs for it.
    local: bool = False


_SLOT: Final = Argument(
    "slot",
    int,
    "the slot of one worker; without it, all workers",
    optional=True,
    lowest=0,
    highest=HIGHEST_SLOT,
    metavar="SLOT",
)


_ALL: Final = (
    Verb("hello", "Show which server answers: its project, directory and settings.", reads=True, hidden=True),
    Verb("status", "Show the server, its generations and its workers.", reads=True),
    Verb(
        "top",
        "Show workers, requests and pools on the whole screen, as they change.",
        (
            Argument(
                "interval",
                float,
                "seconds between two looks",
                flag=True,
                default=TOP_INTERVAL,
                lowest=0.5,
                highest=60.0,
                metavar="S",
            ),
            Argument(
                "count", int, "end after so many looks; 0 for no end", flag=True, default=0, lowest=0, metavar="N"
            ),
        ),
        reads=True,
        local=True,
    ),
    Verb(
        "history",
        "Show the last hour: a sample every ten seconds, and the last reloads.",
        (
            Argument(
                "since",
                float,
                "only samples after this time, in seconds since 1970",
                flag=True,
                default=0.0,
                lowest=0.0,
                metavar="T",
            ),
        ),
        reads=True,
    ),
    Verb(
        "reload",
        "Load the code on disk, and replace the workers one by one.",
        (
            Argument("wait", bool, "wait for the verdict, and show the progress", flag=True, default=False),
            Argument(
                "timeout",
                float,
                "seconds to wait for the verdict; the reload goes on after that",
                flag=True,
                default=RELOAD_TIMEOUT,
                lowest=0.1,
                highest=LONGEST_WAIT,
                metavar="S",
            ),
        ),
    ),
    Verb(
        "scale",
        "Set the number of workers, until the next reload or scale.",
        (Argument("workers", int, "workers wanted", lowest=1, highest=MOST_WORKERS, metavar="N"),),
    ),
    Verb("stop", "Stop the server: running requests are finished first."),
    Verb("recycle", "Replace workers, one by one, replacement first.", (_SLOT,)),
    Verb("requests", "Show the requests in flight: what each does, and for how long.", reads=True),
    Verb("trace", "Show the stacks of all greenlets, by request.", (_SLOT,), reads=True),
    Verb("pool", "Show the database pools: their sizes, who holds a connection, why sessions are pinned.", reads=True),
    Verb(
        "pause",
        "Let requests wait that need a connection to a database, and close its connections as they come back.",
        (
            Argument("alias", str, "the database's name in DATABASES", metavar="ALIAS"),
            Argument(
                "timeout",
                float,
                "seconds after which it ends by itself",
                flag=True,
                default=PAUSE_TIMEOUT,
                lowest=0.1,
                highest=LONGEST_PAUSE,
                metavar="S",
            ),
        ),
    ),
    Verb(
        "resume",
        "End a pause: requests go on with new connections.",
        (Argument("alias", str, "the database's name in DATABASES", metavar="ALIAS"),),
    ),
    Verb(
        "kill",
        "End a request: its statement is cancelled, its transaction rolled back, its client gets 503.",
        (Argument("request", str, "the id that `requests` shows, or the X-Request-ID", metavar="REQUEST_ID"),),
    ),
    Verb(
        "log-level",
        "Change the level from which messages are logged, until the next reload.",
        (Argument("level", str, "the level", choices=LEVELS, metavar="LEVEL"),),
    ),
)

#: By name.
VERBS: Final[Mapping[str, Verb]] = {verb.name: verb for verb in _ALL}


def read_arguments(verb: Verb, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a request, those included that were not given.

    Raises:
        BadRequestError: one that the verb does not take, or a value that it does not take, or one that is missing.
    """
    known = {argument.name: argument for argument in verb.arguments}
    if unknown := sorted(given.keys() - known.keys()):
        takes = ", ".join(known) or "none"
        raise BadRequestError(f"{verb.name} takes no argument {unknown[0]!r:.100}; it takes {takes}")
    return {name: _read(verb, argument, given) for name, argument in known.items()}


def _read(verb: Verb, argument: Argument, given: Mapping[str, Any]) -> Any:
    value = given.get(argument.name)
    if not argument.fits(value):
        if value is None:
            raise BadRequestError(f"{verb.name} needs {argument.name}: {argument.takes}")
        raise BadRequestError(f"{verb.name}: {argument.name} is {value!r:.100}; give {argument.takes}")
    return argument.default if value is None else value


#: Reads a text of the command line; raises ValueError.
READERS: Final[Mapping[type, Callable[[str], Any]]] = {int: int, float: float, str: str}
