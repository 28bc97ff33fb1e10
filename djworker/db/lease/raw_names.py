"""What may be asked of the client library's connection without holding it: one table for each library, with the reasons.

A name that stands in no table is answered too, but by a connection that is held to the end of the request and replaced then
(`Lease.opened`). A table lists what leaves nothing behind, neither in the server nor in the library's object, and gives
nothing out that leads back to the connection.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


#: How verdicts and messages name what was asked of the library's object, before its name there.
LIBRARY: Final = "connection.connection."


class Treatment(Enum):
    """How a name of the library's connection is answered."""

    FACT = auto()  # a plain value: read on a connection with our settings, which is given back
    FUNCTION = auto()  # a method that sends nothing and changes nothing: called there
    EXCHANGE = auto()  # a method with a round trip that leaves nothing in the session: a statement
    IDENTITY = auto()  # a method that gives the session's own number: the connection is held, and not replaced
    NUMBER = auto()  # the same as an attribute
    STATE = auto()  # of the connection that we hold; a constant while we hold none
    LAST_RESULT = auto()  # a method about the last statement: asked of the session in which that ran, or refused
    MODE = auto()  # whether autocommit is on: Django and the lease decide
    ALIVE = auto()  # `closed`, `open`, `broken`: of the lease
    SELF = auto()  # the connection once more
    INFO = auto()  # the object with facts, which has a table of its own
    CONSTANT = auto()  # of the class, as the DB-API's exceptions are
    ROWS = auto()  # a cursor's method about the rows that it has


def _table(**kinds: str) -> dict[str, Treatment]:
    return {name: Treatment[kind.upper()] for kind, names in kinds.items() for name in names.split()}


_ERRORS: Final = (
    "Warning Error InterfaceError DatabaseError DataError OperationalError IntegrityError InternalError"
    " ProgrammingError NotSupportedError"
)


@dataclass(frozen=True)
class Names:
    """[worker] One object of one library.

    answers: how each name is answered. idle: the value of a STATE while nothing is held. over: the same once the lease is
    closed or its connection lost.
    """

    answers: Mapping[str, Treatment]
    idle: Mapping[str, object] = field(default_factory=dict)
    over: Mapping[str, object] = field(default_factory=dict)


# libpq's numbers: PQTRANS_IDLE, PQTRANS_UNKNOWN, CONNECTION_OK, CONNECTION_BAD. The libraries' enums compare equal to them.
_IDLE, _UNKNOWN, _OK, _BAD = 0, 4, 0, 1
_STATUS_READY: Final = 1  # psycopg2.extensions

PSYCOPG: Final = Names(
    _table(
        # The factories are classes or functions: nothing can be put into them that the connection does not have anyway.
        fact="isolation_level read_only deferrable prepare_threshold prepared_max row_factory cursor_factory"
        " server_cursor_factory",
        function="xid",
        mode="autocommit set_autocommit",
        alive="closed broken",
        self="connection",
        info="info",
        constant=f"{_ERRORS} connect",
    )
)
PSYCOPG_INFO: Final = Names(
    _table(
        fact="vendor host hostaddr port dbname user password options dsn server_version full_protocol_version encoding timezone",
        function="get_parameters parameter_status",
        state="transaction_status pipeline_status status error_message",
        number="backend_pid",
    ),
    idle={"transaction_status": _IDLE, "pipeline_status": 0, "status": _OK, "error_message": ""},
    over={"transaction_status": _UNKNOWN, "pipeline_status": 0, "status": _BAD, "error_message": ""},
)
PSYCOPG2: Final = Names(
    _table(
        fact="encoding server_version protocol_version dsn isolation_level readonly deferrable cursor_factory async async_"
        f" {_ERRORS}",  # descriptors: the class has no value for them
        function="get_dsn_parameters get_parameter_status xid",
        state="status get_transaction_status isexecuting",
        identity="get_backend_pid",
        mode="autocommit",
        alive="closed",
        info="info",
    ),
    idle={"status": _STATUS_READY, "get_transaction_status": _IDLE, "isexecuting": False},
    over={"status": _STATUS_READY, "get_transaction_status": _UNKNOWN, "isexecuting": False},
)
PSYCOPG2_INFO: Final = Names(
    _table(
        fact="dbname user password host port options dsn_parameters protocol_version server_version needs_password"
        " used_password ssl_in_use ssl_attribute_names",
        function="parameter_status ssl_attribute",
        state="transaction_status status error_message",
        number="backend_pid",
    ),
    idle={"transaction_status": _IDLE, "status": _OK, "error_message": None},
    over={"transaction_status": _UNKNOWN, "status": _BAD, "error_message": None},
)
MYSQLCLIENT: Final = Names(
    _table(
        fact="encoding client_flag server_capabilities port default_cursor cursorclass",
        function="escape escape_string literal string_literal character_set_name get_character_set_info get_host_info"
        " get_proto_info get_server_info",
        exchange="ping stat kill",
        identity="thread_id",
        last_result="insert_id affected_rows warning_count show_warnings info field_count errno error sqlstate",
        mode="autocommit get_autocommit",
        alive="open",
        constant=_ERRORS,
    )
)
PYMYSQL: Final = Names(
    _table(
        fact="host port user password db unix_socket charset encoding collation use_unicode client_flag cursorclass"
        " connect_timeout max_allowed_packet bind_address ssl sql_mode init_command local_infile protocol_version host_info"
        " server_version server_capabilities server_charset server_language",
        function="escape literal character_set_name get_host_info get_proto_info get_server_info",
        exchange="ping kill",
        identity="thread_id",
        number="server_thread_id",
        last_result="insert_id affected_rows show_warnings",
        mode="autocommit get_autocommit autocommit_mode",
        alive="open",
        constant=_ERRORS,
    )
)

CONNECTIONS: Final = {"psycopg": PSYCOPG, "psycopg2": PSYCOPG2, "mysqlclient": MYSQLCLIENT, "pymysql": PYMYSQL}
INFOS: Final = {"psycopg": PSYCOPG_INFO, "psycopg2": PSYCOPG2_INFO}

_CURSOR: Final = "description rowcount rownumber arraysize"
# PostgreSQL's cursors: `name` is an attribute of server-side ones only in psycopg, and None in psycopg2's others.
CURSORS: Mapping[str, Mapping[str, Treatment]] = {
    "psycopg": _table(
        # _query: Django reads in it what was sent, for its log of queries
        fact=f"{_CURSOR} statusmessage pgresult format row_factory itersize name scrollable withhold _query",
        function="mogrify setinputsizes setoutputsize",
        rows="scroll results set_result",
        self="_conn",
    ),
    "psycopg2": _table(
        fact=f"{_CURSOR} statusmessage query lastrowid itersize name scrollable withhold tzinfo_factory",
        function="mogrify cast setinputsizes setoutputsize",
        rows="scroll",
    ),
    "mysqlclient": _table(
        fact=f"{_CURSOR} description_flags lastrowid warning_count _executed max_stmt_length max_multi_stmt_length"
        f" max_multi_stmt_count executemany_fallback codes_for_integrityerror {_ERRORS}",
        function="mogrify setinputsizes setoutputsizes",
        rows="scroll",
    ),
    "pymysql": _table(
        fact=f"{_CURSOR} lastrowid warning_count _executed max_stmt_length codes_for_integrityerror {_ERRORS}",
        function="mogrify setinputsizes setoutputsizes",
        rows="scroll",
    ),
}

#: All that holds a connection not at all, or for a statement.
FREE: Final = frozenset(
    name
    for names in CONNECTIONS.values()
    for name, answer in names.answers.items()
    if answer not in (Treatment.IDENTITY, Treatment.NUMBER)
)
