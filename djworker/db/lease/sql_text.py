"""A statement's text without its comments: between a function's name and its parenthesis one would hide what is called.

What stands in quotes is left as it is, for a comment sign in there begins nothing, and its end could hide what follows.
"""

from __future__ import annotations

import re
from typing import Final

#: Strings, quoted names and dollar quotes, then what begins a comment.
_POSTGRES: Final = re.compile(
    r"""(?P<kept> (?<![\w$])e'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "[^"]*" | (?<![\w$])\$(?P<tag>(?!\d)\w*)\$.*?\$(?P=tag)\$)
    | --[^\n]* | (?P<opens>/\*)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
#: Comments of PostgreSQL nest.
_ENDS: Final = re.compile(r"/\*|\*/")
#: MySQL runs what is in its own kind of comment, so that only its two ends are taken away.
_MYSQL: Final = re.compile(
    r"""(?P<kept> '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `[^`]*`)
    | \#[^\n]* | --(?=\s|\Z)[^\n]* | /\*M?!\d* | /\*.*?\*/ | \*/""",
    re.VERBOSE | re.DOTALL,
)


def postgres(sql: str) -> str:
    """The text with a space for each comment, as PostgreSQL reads it."""
    if "--" not in sql and "/*" not in sql:
        return sql
    parts: list[str] = []
    at = 0
    while match := _POSTGRES.search(sql, at):
        end = _end_of_comment(sql, match.end()) if match["opens"] else match.end()
        parts += (sql[at : match.start()], match["kept"] or " ")
        at = end
    return "".join((*parts, sql[at:])).lstrip()


def _end_of_comment(sql: str, at: int) -> int:
    depth = 1
    while depth and (match := _ENDS.search(sql, at)):
        depth += 1 if match[0] == "/*" else -1
        at = match.end()
    return len(sql) if depth else at


def mysql(sql: str) -> str:
    """The text with a space for each comment, as MySQL and MariaDB read it."""
    if "--" not in sql and "/*" not in sql and "#" not in sql:
        return sql
    return _MYSQL.sub(lambda match: match["kept"] or " ", sql).lstrip()
