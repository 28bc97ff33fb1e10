"""Numbers and words that two processes must mean alike: each stands here once, and nowhere else."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

# -- how a process ends

#: Exit code of a start whose options or settings are wrong; argparse ends with it, too.
EXIT_CONFIG: Final = 2
#: Exit code of code that never was able to boot: a supervisor that restarts it gains nothing.
EXIT_BOOT: Final = 3

# -- how a process is started

ARBITER: Final = "djworker.arbiter"
MOLD: Final = "djworker.mold.main"
#: Chooses the project's settings; Django's name for it.
SETTINGS_VARIABLE: Final = "DJANGO_SETTINGS_MODULE"


class Flag(StrEnum):
    """What the arbiter says to a child on its command line. Numbers of descriptors, unless it is said otherwise."""

    #: The arbiter's process id.
    ARBITER = "--arbiter"
    CHANNEL = "--channel"
    #: Listening sockets, with commas.
    LISTENERS = "--listeners"
    #: A mold's generation.
    GENERATION = "--generation"
    #: A mold that loads the project only to become a worker.
    ALONE = "--alone"
    #: The slot of the worker that a mold becomes, its row of the scoreboard, and its region of metrics.
    SLOT = "--slot"
    ROW = "--row"
    REGION = "--region"
    #: Where a mold that hangs writes its stacks.
    STACKS = "--stacks"
    #: The status process's memory: what the arbiter tells it, its own, and that of each slot.
    BOARD = "--board"
    OWN = "--own"
    REGIONS = "--regions"
    #: Load the project, say what is wrong with it, and end.
    CHECK = "--check"


# -- what a request is doing


class RequestPhase(StrEnum):
    """The words that operators are told. Memory that outlives a worker has their numbers, so a new one comes last."""

    RUNNING = "running"
    QUEUED = "queued"
    READING_BODY = "reading body"
    WRITING = "writing"
    WAITING_FOR_CONNECTION = "waiting for a connection"
    IN_SQL = "in SQL"
    READING_HEAD = "reading head"
    CLOSING = "closing"


#: Why a request has no answer, in its line of the access log, with what became of its worker.
LOST: Final = "lost with the worker: {}"

# -- what a generation is asked before it is trusted


class SettledQuestion(StrEnum):
    """What the settings alone answer. A mold says in its log what is wrong with them, as a check; it is not told twice."""

    SECRET_KEY = "SECRET_KEY"  # noqa: S105 - the setting's name
    ALLOWED_HOSTS = "ALLOWED_HOSTS"
    DEBUG = "DEBUG"
    MANIFEST = "the manifest of the static files"


# -- how many there are

#: Workers of two generations at once, above the number that is wanted: a reload replaces one at a time.
SURGE: Final = 1

# -- how long one waits for the other, in seconds

#: A worker cuts its last requests itself at the end of its grace; this much later the arbiter kills it.
GRACE_MARGIN: Final = 2.0
#: Within that margin a worker ends its database sessions. A server that answers needs some milliseconds.
SESSIONS_END: Final = 1.5
#: An arbiter that is gone leaves its workers this long; everything must be gone within 2 s.
ORPHAN_GRACE: Final = 1.5
#: All answers of a generation that is probed. A page that takes longer has lost its visitors, too.
PROBE_TIMEOUT: Final = 10.0
#: The mold that has them asked gets so much longer, for the fork and its own words.
PROBE_MARGIN: Final = 5.0
#: Each receiver of a life-cycle signal of ours.
HOOK_TIMEOUT: Final = 10.0
#: All receivers of ``process_gone`` get so much longer, so that a single one that hangs is told of by its name.
HOOK_MARGIN: Final = 2.0
#: A process writes its stacks down, which is done within a signal handler.
STACKS_WITHIN: Final = 0.5

# -- what is read of a client

#: The end of a request's head.
END_OF_HEAD: Final = b"\r\n\r\n"

#: Bytes that are asked of a socket or a pipe at once: what a pipe of Linux holds.
READ_SIZE: Final = 65_536
