"""The settings of a lease: parameters of the session that can be set again, on whichever connection it gets next.

So that `SET search_path`, `SET ROLE` and `set_config('app.tenant', …)` of multi-tenant applications need not hold a
connection: each connection remembers which profile it has (its fingerprint), each lease which one it wants, and the
difference is sent in one round trip before the next statement. PgBouncer, Odyssey and MaxScale do the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeGuard

_NAME: Final = r"[A-Za-z_][\w$]*(?:\.[A-Za-z_][\w$]*)*"
_SET: Final = re.compile(
    rf"^\s*SET\s+(?:SESSION\s+(?!AUTHORIZATION\b|CHARACTERISTICS\b))?"
    rf"(?:(?P<special>TIME\s+ZONE|ROLE|SCHEMA)\s+|(?P<name>{_NAME})\s*(?:=|\bTO\b)\s*)(?P<value>.+?)\s*;?\s*$",
    re.IGNORECASE | re.DOTALL,
)
_RESET: Final = re.compile(rf"^\s*RESET\s+(?P<name>{_NAME}|TIME\s+ZONE)\s*;?\s*$", re.IGNORECASE)
_TEXT: Final = r"'(?:[^'\\%]|'')*'"
_CALL: Final = (
    rf"(?:pg_catalog\.)?set_config\s*\(\s*({_TEXT}|%s)\s*,\s*({_TEXT}|%s)\s*,\s*({_TEXT}|false|true|%s)\s*\)"
    r"(?:\s+as\s+\w+)?"
)
_ONE_CALL: Final = re.compile(_CALL, re.IGNORECASE)
_CALLS: Final = re.compile(rf"^\s*SELECT\s+{_CALL}(?:\s*,\s*{_CALL})*\s*;?\s*$", re.IGNORECASE)
#: Said by other means in SQL, or known to the driver too: these pin.
_NOT_REPLAYED: Final = frozenset(
    {"local", "constraints", "transaction", "names", "client_encoding", "all", "session_authorization"}
)
_SPECIAL: Final = {"time zone": "timezone", "schema": "search_path"}
_TRANSIENT: Final = frozenset({"transaction_isolation", "transaction_read_only", "transaction_deferrable"})

#: The state of random() cannot be sent again: it would begin anew.
_UNREPEATABLE: Final = {"seed": "setseed", "client_encoding": "SET", "session_authorization": "SET"}

#: Types of parameters that are sent the same way whenever they are sent.
_CONSTANT: Final = frozenset({str, int, float, bool, bytes, type(None)})
_BOOLEANS: Final = {True: ("true", "yes", "on", "1"), False: ("false", "no", "off", "0")}
#: They say which tables a name means; the role, because "$user" may stand in the search_path.
_RESOLVING: Final = ("search_path", "role", "session_authorization")

_ROLE: Final = "role"
RESET: Final = "RESET "
SET_CONFIG: Final = "SELECT pg_catalog.set_config(%s, %s, false)"


class Setting(NamedTuple):
    """One parameter, and the statement that sets it."""

    name: str
    sql: str
    params: tuple[object, ...] | None


@dataclass(frozen=True, slots=True)
class Profile:
    """[worker] Settings by name, in the order in which they were made. Immutable: connections and leases share it."""

    settings: Mapping[str, Setting]

    def with_settings(self, settings: Sequence[Setting], base: Mapping[str, str]) -> Profile:
        """The profile after these statements; `base`: what a connection's set-up sets, so that RESET is a change."""
        result = dict(self.settings)
        for setting in settings:
            result.pop(setting.name, None)
            if setting.name in base or not setting.sql.startswith(RESET):
                result[setting.name] = setting
        return Profile(result) if result else EMPTY

    def changes_from(self, other: Profile, base: Mapping[str, str]) -> Iterator[Setting]:
        """What to send to a connection that has the profile `other`.

        In the role that the connection began with: another one may not be allowed to change what was set before it.
        """
        gone = other.settings.keys() - self.settings.keys()
        changed = [name for name, setting in self.settings.items() if other.settings.get(name) != setting]
        as_role = other.settings.keys() & {_ROLE} and (len(gone) + len(changed) > 0)
        if as_role:
            yield restore(_ROLE, base)
        for name in gone:
            if name != _ROLE:
                yield restore(name, base)
        for name, setting in self.settings.items():
            if name in changed or (name == _ROLE and as_role):
                yield setting

    def resolution(self) -> tuple[Setting | None, ...]:
        """Those that say which tables a name means."""
        return tuple(self.settings.get(name) for name in _RESOLVING) if self.settings else ()


EMPTY: Final = Profile({})


def restore(name: str, base: Mapping[str, str]) -> Setting:
    """Back to what it was when the connection had been set up."""
    if name in base:
        return Setting(name, SET_CONFIG, (name, base[name]))
    return _reset(name)


def _reset(name: str) -> Setting:
    quoted = ".".join(f'"{part}"' for part in name.split("."))  # `app.user` is a syntax error without
    return Setting(name, RESET + quoted, None)


def read_settings(sql: str, params: object) -> list[Setting] | None:
    """The settings that this statement makes; None if they cannot be told for sure.

    Without `params` the form is looked at only, and what they would be filled with is left open.
    """
    if "--" in sql or "/*" in sql:
        return None
    if _CALLS.match(sql):
        return _calls(sql, params)
    return _one_set(sql, params)


def _one_set(sql: str, params: object) -> list[Setting] | None:
    if match := _RESET.match(sql):
        name = _name(match["name"])
        return None if name in _NOT_REPLAYED else [_reset(name)]
    match = _SET.match(sql)
    if match is None or ";" in match["value"]:
        return None
    name = _name(match["special"] or match["name"])
    if name in _NOT_REPLAYED or name in _TRANSIENT:
        return None if name in _NOT_REPLAYED else []
    if match["value"].upper() == "DEFAULT":
        return [_reset(name)]
    return [Setting(name, sql, None if params is None else tuple(params))] if _lasting(params) else None


def kept_for(settings: Sequence[Setting]) -> str:
    """Why a session in which these were made must be kept, rather than that they are made again elsewhere; or nothing."""
    for setting in settings:
        if setting.name in _UNREPEATABLE:
            return _UNREPEATABLE[setting.name]
        if any("pg_temp" in str(value).lower() for value in setting.params or ()):
            return "temporary table"  # those that are made from now on, without a word that says so
    return ""


def _name(text: str) -> str:
    name = re.sub(r"\s+", " ", text).lower()
    return _SPECIAL.get(name, name)


def _calls(sql: str, params: object) -> list[Setting] | None:
    if not _lasting(params):
        return None
    rest = iter(params or ())
    found = []
    for match in _ONE_CALL.finditer(sql):
        name, value, local = (_filled(text, rest) for text in match.groups())
        if params is not None or "%s" not in match.group(0):
            truth = _truth(local)
            if truth is None:
                return None
            if truth:
                continue
        setting = Setting(str(name).lower(), SET_CONFIG, (name, value))
        if setting.name not in _TRANSIENT:
            found.append(setting)
    return found


def _lasting(params: object) -> TypeGuard[Sequence[object] | None]:
    """Whether the parameters say the same whenever they are sent again: a lazy object may not."""
    if params is None:
        return True
    return isinstance(params, list | tuple) and all(type(value) in _CONSTANT for value in params)


def _truth(local: object) -> bool | None:
    """PostgreSQL's reading of a boolean (`parse_bool`): any beginning of these words that only one has; None if it has none.

    Of text only: what else is no boolean is refused by the server, or read by rules of its own.
    """
    if isinstance(local, bool):
        return local
    word = local.strip(" \t\n\r\f\v").lower() if isinstance(local, str) else ""
    if not word or word == "o":
        return None
    for value, words in _BOOLEANS.items():
        if any(known.startswith(word) for known in words):
            return value
    return None


def _filled(text: str, params: Iterator[object]) -> object:
    if text == "%s":
        return next(params, None)
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    return text.lower() == "true"
