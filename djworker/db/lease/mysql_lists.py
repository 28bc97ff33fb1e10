"""What MySQL keeps for a later question, and which statements leave it as it was.

The list of warnings is emptied by a statement that uses a table or has a warning of its own; the number of rows found is that of
the last query. After any other statement both still tell of an earlier one, perhaps of another request's, values included.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from djworker.db.lease import sql_text
from djworker.db.lease.raw_names import LIBRARY

#: Numbers of the server's errors begin here (MySQL's manual, "Error Message Sources"); 2000-2999 are the client's own.
_FIRST_ERROR: Final = 1000
_CLIENT_ERRORS: Final = range(2000, 3000)

_QUERY: Final = re.compile(r"^[\s(]*(?:select|with|values|table)\b", re.IGNORECASE)
_ALWAYS_USES_A_TABLE: Final = re.compile(r"^\s*(?:insert|update|delete|replace|load)\b", re.IGNORECASE)
_QUOTED: Final = re.compile(r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*\"""", re.DOTALL)
_INNERMOST: Final = re.compile(r"\([^()]*\)")
#: Of a table that has a name, and not of EXTRACT(YEAR FROM …) or of the table that is none.
_FROM: Final = re.compile(r"\bfrom\s+(?!dual\b)[`\w]", re.IGNORECASE)


class AnsweredStatement(NamedTuple):
    """The last statement that the server has answered on a connection.

    text: None if the answer was an error. at: the connection's count of statements then.
    """

    text: str | None
    at: int


def is_of_server(error: BaseException | None) -> bool:
    """Whether the server has raised it, for a statement that has reached it."""
    code = error.args[0] if error is not None and error.args else None
    return isinstance(code, int) and code >= _FIRST_ERROR and code not in _CLIENT_ERRORS


def tells(asked: str, answered: AnsweredStatement, *, warned: bool) -> bool:
    """Whether the answer to a read-back is of that statement.

    Args:
        asked: the read-back, in lower case.
        answered: the last statement.
        warned: whether it had warnings.
    """
    if asked.startswith(LIBRARY) and not asked.endswith("show_warnings"):
        return True  # they are the library's, of each statement
    if "found_rows" in asked or "query_cost" in asked:
        return answered.text is not None and _QUERY.match(sql_text.mysql(answered.text)) is not None
    if any(word in asked for word in ("warning", "error", "diagnostics")):
        return warned or answered.text is None or _uses_a_table(answered.text)
    return True


def _uses_a_table(text: str) -> bool:
    text = sql_text.mysql(text)
    if _ALWAYS_USES_A_TABLE.match(text):
        return True
    text = _QUOTED.sub("''", text)
    while (shorter := _INNERMOST.sub("", text)) != text:
        text = shorter
    return _FROM.search(text) is not None
