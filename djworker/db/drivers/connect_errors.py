"""Why a connection could not be made, in a sentence of its own for each reason, with the remedy.

The libraries' own texts say it in the words of a protocol, and a server that refuses a password is called "not reachable" by
most of what reads them. Pure: looks at an exception and at an entry of ``DATABASES``, and asks no server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["Explanation", "explain"]

#: libpq: the severity, which is translated, a colon and two spaces (PostgreSQL, 55.2 "Protocol flow"; fe-protocol3.c).
_SERVERS_WORD: Final = re.compile(r"failed: [^\s:]+:  (?P<words>.*)", re.DOTALL)
#: What libpq and psycopg put before the reason.
_PREAMBLE: Final = re.compile(
    r"^(?:connection (?:failed|is bad): )?connection to server (?:at|on socket) .*? failed: ", re.DOTALL
)
_SOCKET: Final = re.compile(r"(?:on|through) socket [\"'](?P<path>[^\"']+)[\"']")
_ERRNO: Final = re.compile(r"\[Errno (-?\d+)\]|\((-?\d+)[\s\")]")


@dataclass(frozen=True, slots=True)
class Explanation:
    """A sentence on what happened, what to do about it, and the library's own words in one line."""

    text: str
    hint: str
    words: str

    @property
    def said(self) -> str:
        """All of it but the hint."""
        return self.text if self.words in self.text else f"{self.text} ({self.words})"

    def __str__(self) -> str:
        return f"{self.said}: {self.hint}"


@dataclass(frozen=True, slots=True)
class _Case:
    """What is known of the attempt: the settings of the alias, and what the library says."""

    alias: str
    database: Mapping[str, object]
    words: str

    def setting(self, name: str) -> str:
        return str(self.database.get(name) or "")

    @property
    def entry(self) -> str:
        return f"DATABASES[{self.alias!r}]"

    @property
    def user(self) -> str:
        name = self.setting("USER")
        return f"user {name!r}" if name else "the user (USER is empty)"

    @property
    def name(self) -> str:
        return f"database {self.setting('NAME')!r}"

    @property
    def place(self) -> str:
        if found := _SOCKET.search(self.words):
            return f"on the socket {found['path']}"
        if self.setting("HOST").startswith("/"):
            return f"on the socket {self.setting('HOST')}"
        host, port = self.setting("HOST") or "this machine", self.setting("PORT")
        return f"at {host}, port {port}" if port else f"at {host}"


Said = tuple[str, str]
_Answer = Callable[[_Case], Said]


def explain(error: BaseException, database: Mapping[str, object], alias: str = "default") -> Explanation:
    """Say why the connection was not made.

    Args:
        error: the library's exception, or Django's around it.
        database: the entry of ``DATABASES``; what it lacks is not spoken of.
        alias: its name there.
    """
    root = _library_error(error)
    said = str(root.args[1]) if _number(root) else str(root)
    words = _in_one_line(_PREAMBLE.sub("", said).partition("\n")[0])  # libpq adds advice
    case = _Case(alias, database, str(root))
    text, hint = _answer(root, case)
    return Explanation(text or words, hint or f"correct {case.entry}, or start the server", words)


def _answer(root: BaseException, case: _Case) -> Said:
    if number := _number(root):
        return _of_mysql(number, case)
    if type(root).__module__.startswith("sqlite3"):
        return _of_sqlite(case)
    return _of_postgres(case)


def _library_error(error: BaseException) -> BaseException:
    """The one that Django's, and a pool's, was raised from."""
    while type(error).__module__.startswith(("django.", "djworker.")) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _number(error: BaseException) -> int:
    """MySQL's; 0 where the library has none, as PostgreSQL's."""
    if isinstance(error, OSError) or not error.args:
        return 0
    return error.args[0] if isinstance(error.args[0], int) and len(error.args) > 1 else 0


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


# -- what each reason is called


def _password(case: _Case) -> Said:
    """Servers do not tell which of the two it is, so that strangers cannot find out who has an account."""
    text = f"the server refuses us: the password of {case.user} is wrong, or there is no such user"
    return text, f"correct USER and PASSWORD of {case.entry}"


def _no_password(case: _Case) -> Said:
    text = f"the server refuses us: it wants a password for {case.user}, and PASSWORD is empty"
    return text, f"set PASSWORD of {case.entry}"


def _no_database(case: _Case) -> Said:
    return f"the server refuses us: it has no {case.name}", f"create it, or correct NAME of {case.entry}"


def _no_role(case: _Case) -> Said:
    return f"the server refuses us: it has no {case.user}", f"create it, or correct USER of {case.entry}"


def _no_login(case: _Case) -> Said:
    return f"the server refuses us: {case.user} may not log in", "ALTER ROLE … LOGIN, or another USER"


def _no_grant(case: _Case) -> Said:
    return f"the server refuses us: {case.user} may not use {case.name}", "GRANT it, or correct USER or NAME"


def _locked(case: _Case) -> Said:
    return f"the server refuses us: the account of {case.user} is locked or has expired", "unlock it in the server"


def _full(case: _Case) -> Said:
    text = f"the server refuses us: it has no connection left, in all or for {case.user}"
    return text, "lower max_size or workers, or raise the server's limit"


def _not_from_here(_case: _Case) -> Said:
    text = "the server refuses us: it takes no connections from this machine for this user and database"
    return text, "allow this machine's address in the server (pg_hba.conf, or the host of MySQL's account)"


def _not_from_here_without_tls(case: _Case) -> Said:
    text, _hint = _not_from_here(case)
    hint = f"add it to pg_hba.conf; if it is there for TLS only, set OPTIONS = {{'sslmode': 'require'}} in {case.entry}"
    return f"{text} without TLS", hint


def _wants_tls(case: _Case) -> Said:
    return "the server refuses us: it wants TLS", f"set 'ssl' or 'ssl_mode' in OPTIONS of {case.entry}"


def _has_no_tls(case: _Case) -> Said:
    text = f"the server has no TLS, and OPTIONS of {case.entry} demands it"
    return text, "switch TLS on in the server, or leave sslmode (ssl_mode) out"


def _bad_certificate(case: _Case) -> Said:
    text = "TLS with the server fails: its certificate, or a file of ours, is not right"
    return text, f"correct the options for TLS in OPTIONS of {case.entry}"


def _unknown_host(case: _Case) -> Said:
    return f"the host {case.setting('HOST')!r} is unknown: no address has that name", f"correct HOST of {case.entry}"


def _nothing_listens(case: _Case) -> Said:
    return f"no server listens {case.place}", f"start it, or correct HOST and PORT of {case.entry}"


def _no_socket(case: _Case) -> Said:
    hint = f"start it, or set HOST of {case.entry}: without one, a server on this machine is looked for"
    return f"no server listens {case.place}", hint


def _no_answer(case: _Case) -> Said:
    hint = f"is HOST of {case.entry} right, and does a firewall let us through?"
    return f"the server {case.place} does not answer in time", hint


def _no_way(case: _Case) -> Said:
    return f"there is no way to the server {case.place}", f"is HOST of {case.entry} right, and the network up?"


def _not_ready(_case: _Case) -> Said:
    return "the server is starting, or stopping, and takes no connections now", "it is tried again"


def _other_server(case: _Case) -> Said:
    hint = f"correct ENGINE, HOST and PORT of {case.entry}"
    return f"the program that listens {case.place} hangs up, or is no database of this kind", hint


def _bad_option(case: _Case) -> Said:
    return "the server refuses us: it does not know an option of OPTIONS", f"correct OPTIONS of {case.entry}"


# -- PostgreSQL: libpq hands out no SQLSTATE for a failed login, so the words it is

#: Words, in English and in what is never translated, in the order in which they are looked for.
_POSTGRES: Final[tuple[tuple[str, _Answer], ...]] = (
    ("no password supplied", _no_password),
    ("password authentication failed", _password),
    ("authentication failed for user", _password),
    ("is not permitted to log in", _no_login),
    ("permission denied for database", _no_grant),
    ("too many connections", _full),
    ("too many clients", _full),
    ("remaining connection slots", _full),
    ("no pg_hba.conf entry", _not_from_here),
    ("pg_hba.conf rejects", _not_from_here),
    ("server does not support SSL", _has_no_tls),
    ("certificate", _bad_certificate),
    ("SSL error", _bad_certificate),
    ("the database system is", _not_ready),
    ("failed to resolve host", _unknown_host),
    ("could not translate host name", _unknown_host),
    ("No such file or directory", _no_socket),
    ("Connection refused", _nothing_listens),
    ("timeout expired", _no_answer),
    ("timed out", _no_answer),
    ("unreachable", _no_way),
    ("No route to host", _no_way),
    ("invalid response to SSL negotiation", _other_server),
    ("expected authentication request", _other_server),
    ("server closed the connection unexpectedly", _other_server),
    ("Packet sequence number wrong", _other_server),  # PyMySQL's, without a number
    ("unrecognized configuration parameter", _bad_option),
    ("invalid connection option", _bad_option),
)
_NO_TLS: Final = ("no encryption", "SSL off")
_GHOST: Final = re.compile(r"(?P<what>database|role) \"[^\"]*\" does not exist")


def _of_postgres(case: _Case) -> Said:
    words = case.words
    if found := _GHOST.search(words):
        return (_no_database if found["what"] == "database" else _no_role)(case)
    for part, answer in _POSTGRES:
        if part in words:
            refused_bare = answer is _not_from_here and any(sign in words for sign in _NO_TLS)
            return (_not_from_here_without_tls if refused_bare else answer)(case)
    if found := _SERVERS_WORD.search(words):  # in another language, or for a reason of its own
        return f"the server refuses us: {_in_one_line(found['words'])}", ""
    return "", ""


# -- MySQL and MariaDB: numbers of the server (1000 and above) and of the client (2000 to 2099)

_MYSQL: Final[Mapping[int, _Answer]] = {
    1040: _full,
    1044: _no_grant,
    1045: _password,
    1049: _no_database,
    1053: _not_ready,
    1129: _not_from_here,
    1130: _not_from_here,
    1203: _full,
    1226: _full,
    1251: _bad_option,
    1698: _password,
    1820: _locked,
    1862: _locked,
    2005: _unknown_host,
    2006: _other_server,
    2013: _other_server,
    2026: _bad_certificate,
    3118: _locked,
    3159: _wants_tls,
    4151: _locked,
}
_CANNOT_CONNECT: Final = (2002, 2003)
#: The client's own "not supported" is told by its words: it has no number of its own.
_MYSQL_NO_TLS: Final = ("SSL is required, but the server does not support", "SSL connection error: SSL is required")
_BY_ERRNO: Final[Mapping[int, _Answer]] = {
    -5: _unknown_host,
    -3: _unknown_host,
    -2: _unknown_host,
    2: _no_socket,
    101: _no_way,
    110: _no_answer,
    111: _nothing_listens,
    113: _no_way,
    115: _nothing_listens,
}


def _of_mysql(number: int, case: _Case) -> Said:
    words = case.words
    if any(part in words for part in _MYSQL_NO_TLS):
        return _has_no_tls(case)
    if number == 1045 and "using password: NO" in words:
        return _no_password(case)
    if number in _CANNOT_CONNECT:
        found = _ERRNO.search(words)
        if "timed out" in words:
            return _no_answer(case)
        return _BY_ERRNO.get(int(found[1] or found[2]) if found else 111, _nothing_listens)(case)
    answer = _MYSQL.get(number)
    if answer is not None:
        return answer(case)
    return ("the server refuses us", "") if not 2000 <= number < 2100 else ("", "")


# -- SQLite: there is no server, and the file is what can be wrong


def _of_sqlite(case: _Case) -> Said:
    path = case.setting("NAME")
    folder = os.path.dirname(os.path.abspath(path))
    if "unable to open" not in case.words:
        return "", ""
    if not os.path.isdir(folder):
        return (
            f"the file {path} cannot be made: there is no folder {folder}",
            f"create it, or correct NAME of {case.entry}",
        )
    return (
        f"the file {path} cannot be opened by user {os.geteuid()}",
        f"change its permissions, or NAME of {case.entry}",
    )
