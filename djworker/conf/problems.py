"""What can be wrong with a configuration, and how it is told: always with the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]


# What each id means; ids are never given to something else, because people silence checks by them.
CATALOGUE: Mapping[str, str] = {
    "E001": "An option that does not exist.",
    "E002": "A value that cannot be read.",
    "E003": "A value outside its bounds.",
    "E004": "An access log format with an unknown atom or a lone per cent sign.",
    "E005": "A user or a group that does not exist on this machine.",
    "E006": "A change of user or group without being root.",
    "E007": "A descriptor in bind that is not a listening socket.",
    "E008": "A file that the process which needs it (root's, or that of the workers' user) cannot write.",
    "E009": "An option that needs a package which is not installed.",
    "E010": "settings.DJWORKER is not a dict.",
    "E011": "An address that cannot be listened on, such as a port in use.",
    "E012": "DJANGO_SETTINGS_MODULE is not set.",
    "E013": "A group without a user, as root: the workers would still be root.",
    "E020": "The options of a pool are not a dict.",
    "E021": "A pool option that does not exist.",
    "E022": "A pool option with a value that it cannot have.",
    "E023": "A pool whose min_size is above its max_size.",
    "E024": "DJWORKER['POOLS'] names an alias that DATABASES does not have.",
    "E025": "psycopg was imported before gevent patched the process: each connect and cancel stops the whole worker.",
    "E026": "An engine whose client library is not installed.",
    "E027": "DATABASES, or its value for an alias, is no dict; or it has no default.",
    "E030": "An option of gunicorn's that is not offered, with a value that would change what the server does.",
    "E031": "A word of the command line that is no option or argument of djworker.",
    "E032": "A NAME=VALUE, a folder or an import path of the command line that cannot be used.",
    "W001": "max_requests_jitter without max_requests.",
    "W002": "max_requests_jitter above max_requests.",
    "W003": "A variable of the environment that begins with DJWORKER_ and means no option, perhaps misspelt.",
    "W004": "Sockets passed by systemd that bind does not name.",
    "W005": "An option of pools, given at the start, that no pool follows: the settings give each database a value of its own.",
    "W009": "Django trusts a proxy's fields and is served beyond this machine, and forwarded_allow_ips does not say which proxy.",
    "W010": "Sockets that systemd passed to another process, such as a shell that started this one.",
    "W011": "SECURE_SSL_REDIRECT beyond this machine, and no proxy elsewhere is believed: requests are redirected for ever.",
    "W030": "An option of gunicorn's that is always on, or not needed, and has no effect.",
    "W031": "wsgi.py, which gunicorn would load, chooses other settings than those in use.",
    "W032": "Options for gunicorn (GUNICORN_CMD_ARGS, gunicorn.conf.py) that are not read.",
    "W101": "An engine whose client library stops every request of a worker during each query.",
    "W102": "CONN_MAX_AGE on a pooled alias, where it has no effect: max_lifetime is the age of connections.",
    "W103": "CONN_HEALTH_CHECKS on a pooled alias, where it has no effect: check_after is when a connection is checked.",
    "W104": "ATOMIC_REQUESTS with the transaction lease: each request holds its connection from its first query to its end.",
    "W105": "A strict pool without DEBUG: every statement pays for a reset.",
    "W106": "SQLite with several workers: they write in turns, one at a time.",
    "W107": "Middleware that uses connection.connection, so that every request keeps its connection to its end.",
    "W108": "All workers, and one more during a reload, may want more connections than the server gives to this user.",
    "W109": "AUTOCOMMIT switched off with the transaction lease: each request holds its connection to its end.",
    "W110": "An option of psycopg_pool in OPTIONS['pool'] that a green pool does not need; the hint says what does its work.",
    "W111": "A database server that cannot be asked how many connections it takes: away, or the settings are wrong.",
    "W112": "DJWORKER['POOLS'] names an alias whose engine has no pool.",
    "W113": "A receiver of connection_created that reads data of a request, which is not there when the receiver runs.",
    "W201": "DEBUG is True on a server for visitors.",
    "W202": "ALLOWED_HOSTS is empty, and DEBUG off: every request is answered with 400.",
    "W203": "SECRET_KEY is empty, or the one that startproject made for development.",
    "W204": "Migrations that the default database does not have yet, or that cannot be read.",
    "W205": "An SQLite file, or its folder, that the user of the workers may not write.",
    "W206": "DATABASES has no engine for the default alias, and installed applications have models.",
    "W207": "Fewer descriptors (nofile) than worker_connections and the pools, or the arbiter, may want.",
    "W208": "A backlog above net.core.somaxconn, which caps it.",
    "W209": "The manifest of the static files is missing or empty, and their storage needs it.",
}


class UnreadableError(ValueError):
    """A value that an option cannot have."""

    def __init__(self, message: str, hint: str = "") -> None:
        """message: what is wrong; hint: what to give instead."""
        self.message = message
        self.hint = hint
        super().__init__(f"{message}: {hint}" if hint else message)


class BoundsError(UnreadableError):
    """A value that can be read lies outside its option's limits."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the configuration. ``str(problem)`` is one line with all of it.

    id: as in ``djworker.E003``, stable. setting, value, source: the option, its value as given, and who gave it; empty
    where no single option is to blame.
    """

    id: str
    message: str
    hint: str = ""
    setting: str = ""
    value: str = ""
    source: str = ""
    level: Level = "error"

    @property
    def text(self) -> str:
        """The line without id and hint."""
        origin = f" (from {self.source})" if self.source else ""
        return f"{self.setting} = {self.value!r}{origin}: {self.message}" if self.setting else self.message

    def __str__(self) -> str:
        """Write the whole line."""
        line = f"djworker.{self.id}: {self.text}"
        return f"{line}: {self.hint}" if self.hint else line


class ConfigError(Exception):
    """The configuration cannot be used. Carries every problem found, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """problems: errors and warnings."""
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))
