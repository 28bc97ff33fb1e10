"""Steps that go behind Django: attributes, methods and assignments of the client library's connection and cursor."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from tests.db.contract.fuzz.kinds import MYSQL, POSTGRES, kind, one_of, some

if TYPE_CHECKING:
    from tests.db.contract.fuzz.sides import Session

PSYCOPG3, PSYCOPG2 = frozenset({"psycopg3"}), frozenset({"psycopg2"})
MYSQLCLIENT, PYMYSQL = frozenset({"mysqlclient"}), frozenset({"pymysql"})


def raw(s: Session) -> Any:
    """`connection.connection`. Of a closed one ours refuses what the library still answers or lets be set."""
    if s.connection.in_atomic_block and s.connection.closed_in_transaction:
        raise ValueError("closed in a transaction")
    s.connection.ensure_connection()
    return s.connection.connection


def looked_at(s: Session) -> Any:
    """`connection.connection`, to be read. A lost one says so, where a step that was refused has lost Django's nothing."""
    conn = raw(s)
    s.refuse_if_lost()
    return conn


def simple(value: Any) -> Any:
    """What can be compared of a value: an enum's name, a dict's size."""
    if isinstance(value, enum.Enum):
        return value.name
    return len(value) if isinstance(value, dict) else value


# -- reading --------------------------------------------------------------------------------------------------------------


@kind(
    one_of(
        "closed",
        "broken",
        "autocommit",
        "isolation_level",
        "read_only",
        "deferrable",
        "prepare_threshold",
        "prepared_max",
    ),
    weight=2,
    idle=True,
    drivers=PSYCOPG3,
)
def read_attribute(s: Session, name: str) -> Any:
    return simple(getattr(looked_at(s), name))


@kind(
    one_of(
        "transaction_status",
        "status",
        "dbname",
        "user",
        "encoding",
        "server_version",
        "vendor",
        "password",
        "pipeline_status",
    ),
    weight=2,
    idle=True,
    drivers=PSYCOPG3,
)
def read_info(s: Session, name: str) -> Any:
    return simple(getattr(looked_at(s).info, name))


@kind(one_of("TimeZone", "client_encoding", "is_superuser"), idle=True, drivers=PSYCOPG3)
def read_parameter(s: Session, name: str) -> Any:
    return looked_at(s).info.parameter_status(name)


@kind(idle=True, drivers=PSYCOPG3)
def read_adapters(s: Session) -> Any:
    from psycopg.pq import Format

    return [looked_at(s).adapters.get_loader(oid, Format.TEXT).__name__ for oid in (23, 25, 1700, 3802)]


@kind(
    one_of(
        "closed",
        "autocommit",
        "isolation_level",
        "readonly",
        "deferrable",
        "encoding",
        "server_version",
        "protocol_version",
        "status",
    ),
    weight=2,
    idle=True,
    drivers=PSYCOPG2,
)
def read_attribute_2(s: Session, name: str) -> Any:
    found = getattr(looked_at(s), name)
    return int(found) if name == "closed" else found


@kind(idle=True, weight=2, drivers=PSYCOPG2)
def read_transaction_status(s: Session) -> Any:
    return looked_at(s).get_transaction_status(), looked_at(s).info.transaction_status


@kind(one_of("TimeZone", "client_encoding", "is_superuser"), idle=True, drivers=PSYCOPG2)
def read_parameter_2(s: Session, name: str) -> Any:
    return looked_at(s).get_parameter_status(name), looked_at(s).info.parameter_status(name)


@kind(
    one_of("character_set_name", "get_server_info", "warning_count", "get_autocommit"),
    weight=2,
    idle=True,
    drivers=MYSQLCLIENT,
)
def asked_library(s: Session, name: str) -> Any:
    return getattr(looked_at(s), name)()


@kind(
    one_of("get_server_info", "get_autocommit", "get_host_info", "character_set_name"),
    weight=2,
    idle=True,
    drivers=PYMYSQL,
)
def asked_pymysql(s: Session, name: str) -> Any:
    found = getattr(looked_at(s), name)()
    return "somewhere" if name == "get_host_info" else found


@kind(
    one_of("db", "user", "charset", "encoding", "autocommit_mode", "sql_mode", "use_unicode"),
    idle=True,
    drivers=PYMYSQL,
)
def read_pymysql(s: Session, name: str) -> Any:
    return getattr(looked_at(s), name)


@kind(drivers=MYSQL)
def library_looked_back(s: Session) -> Any:
    """Right after a row of our own: our `select_db()` is a statement, the library's is none, and leaves the number."""
    with s.whole(), s.connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {s.table} (name, number) VALUES ('number', 4)")
        return raw(s).insert_id() == cursor.lastrowid


def number_of(s: Session) -> int:
    """The server's number of the session, as the library knows it."""
    return int(raw(s).thread_id() if s.site.dialect == "mysql" else raw(s).info.backend_pid)


@kind(weight=2)
def same_number(s: Session) -> Any:
    """The library's number of the session is the server's."""
    number = number_of(s)
    with s.connection.cursor() as cursor:
        cursor.execute(s.site.session_sql)
        return cursor.fetchone()[0] == number


# -- cursor.connection ----------------------------------------------------------------------------------------------------


def behind(s: Session) -> Any:
    """`cursor.connection` of a cursor that has executed."""
    cursor = s.connection.cursor()
    s.cursors["behind"] = cursor  # type: ignore[index]
    cursor.execute(f"SELECT count(*) FROM {s.table}")
    cursor.fetchall()
    return cursor.connection


@kind(weight=2, drivers=POSTGRES)
def status_behind_a_cursor(s: Session) -> Any:
    conn = behind(s)
    s.refuse_if_lost()
    return int(conn.info.transaction_status)


@kind(one_of("commit", "rollback"), weight=2)
def ended_behind_a_cursor(s: Session, verb: str) -> Any:
    """A neighbour's transaction is not ours to end."""
    conn = behind(s)
    s.pause(0.002)
    getattr(conn, verb)()
    s.ended()


@kind(one_of(False, True))
def asked_behind_a_cursor(s: Session, wait: bool) -> Any:  # noqa: FBT001
    conn = behind(s)
    if wait:
        s.pause(0.003)
    with conn.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {s.table}")
        return cursor.fetchall()


# -- methods --------------------------------------------------------------------------------------------------------------


@kind(one_of("commit", "rollback"), weight=1.5)
def ended_behind_django(s: Session, verb: str) -> Any:
    getattr(raw(s), verb)()
    s.ended()


@kind(weight=1.5)
def asked_behind_django(s: Session) -> Any:
    with raw(s).cursor() as cursor:
        cursor.execute(f"SELECT name FROM {s.table} ORDER BY name")
        return list(cursor.fetchall())


@kind(drivers=PSYCOPG3)
def executed_behind_django(s: Session) -> Any:
    return raw(s).execute(f"SELECT name FROM {s.table} ORDER BY name").fetchall()


@kind(one_of(False, True), drivers=PSYCOPG3)
def transaction_behind_django(s: Session, fails: bool) -> Any:  # noqa: FBT001
    with raw(s).transaction():
        raw(s).execute(f"INSERT INTO {s.table} (name, number) VALUES ('psycopg', 1)")
        if fails:
            raise ValueError("wanted")


@kind(drivers=PSYCOPG3)
def pipeline_behind_django(s: Session) -> Any:
    with raw(s).pipeline():
        one = raw(s).execute("SELECT 1")
        other = raw(s).execute(f"SELECT count(*) FROM {s.table}")
        return one.fetchall(), other.fetchall()


@kind(leaves=True, idle=True, drivers=PSYCOPG3)
def added_handlers(s: Session) -> Any:
    raw(s).add_notice_handler(lambda diagnostic: s.log.append(diagnostic.message_primary))
    raw(s).add_notify_handler(lambda notify: s.log.append(notify.payload))


@kind(leaves=True, idle=True, drivers=PSYCOPG3)
def registered_loader(s: Session) -> Any:
    from psycopg.types.numeric import FloatLoader

    raw(s).adapters.register_loader("numeric", FloatLoader)


@kind(weight=2, drivers=POSTGRES)
def read_numeric(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute("SELECT 1.5::numeric")
        return cursor.fetchone()


@kind(leaves=True, idle=True, drivers=PSYCOPG2)
def registered_type(s: Session) -> Any:
    from psycopg2 import extensions

    as_float = extensions.new_type((1700,), "AS_FLOAT", lambda value, _: value and float(value))
    extensions.register_type(as_float, raw(s).cursor().connection)


@kind(
    one_of(
        {"readonly": True},
        {"isolation_level": "SERIALIZABLE"},
        {"deferrable": True},
        {"autocommit": True},
        {"readonly": False},
    ),
    leaves=True,
    weight=1.5,
    drivers=PSYCOPG2,
)
def set_session(s: Session, how: dict[str, Any]) -> Any:
    raw(s).set_session(**how)


@kind(one_of(1, 3, "LATIN1"), leaves=True, drivers=PSYCOPG2)
def set_by_method(s: Session, value: Any) -> Any:
    conn = raw(s)
    (conn.set_client_encoding if isinstance(value, str) else conn.set_isolation_level)(value)


@kind(drivers=PSYCOPG2)
def notices_of_mine(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN RAISE NOTICE 'psst'; END $$")
    return list(raw(s).notices)[-1:]  # those of earlier statements may have come on other connections


@kind(drivers=PSYCOPG2)
def reset_by_method(s: Session) -> Any:
    raw(s).reset()


@kind(drivers=MYSQL)
def pinged(s: Session) -> Any:
    raw(s).ping()


@kind(one_of("{}_red", "{}_blue", "{}"), leaves=True, drivers=MYSQL)
def selected_database(s: Session, name: str) -> Any:
    raw(s).select_db(name.format(s.database))


@kind(one_of("latin1", "utf8mb4"), leaves=True, drivers=MYSQL)
def set_character_set(s: Session, name: str) -> Any:
    raw(s).set_character_set(name)


@kind(one_of(True, False), leaves=True, idle=True, drivers=MYSQL)
def autocommit_behind_django(s: Session, value: bool) -> Any:  # noqa: FBT001
    raw(s).autocommit(value)


@kind(one_of(True, False), leaves=True, idle=True, drivers=POSTGRES)
def assigned_autocommit(s: Session, value: bool) -> Any:  # noqa: FBT001
    raw(s).autocommit = value


@kind(drivers=MYSQL)
def begun_behind_django(s: Session) -> Any:
    raw(s).begin()


# -- assignments ----------------------------------------------------------------------------------------------------------


@kind(
    some(("isolation_level", "read_only", "deferrable"), (None, True, 4)),
    leaves=True,
    idle=True,
    weight=1.5,
    drivers=PSYCOPG3,
)
def assigned(s: Session, name: str, value: Any) -> Any:
    setattr(raw(s), name, value)
    return simple(getattr(raw(s), name))


@kind(one_of("dict_row", "tuple_row"), leaves=True, idle=True, drivers=PSYCOPG3)
def assigned_row_factory(s: Session, name: str) -> Any:
    from psycopg import rows

    raw(s).row_factory = getattr(rows, name)


@kind(some(("prepare_threshold", "prepared_max"), (0, 1, 50)), leaves=True, idle=True, drivers=PSYCOPG3)
def assigned_prepare(s: Session, name: str, value: int) -> Any:
    setattr(raw(s), name, value)
    return getattr(raw(s), name)


@kind(
    some(("isolation_level", "readonly", "deferrable"), (True, None, 3)),
    leaves=True,
    idle=True,
    weight=1.5,
    drivers=PSYCOPG2,
)
def assigned_2(s: Session, name: str, value: Any) -> Any:
    setattr(raw(s), name, value)
    return getattr(raw(s), name)


@kind(one_of("DictCursor", "RealDictCursor"), leaves=True, idle=True, drivers=PSYCOPG2)
def assigned_cursor_factory(s: Session, name: str) -> Any:
    from psycopg2 import extras

    raw(s).cursor_factory = getattr(extras, name)


@kind(leaves=True, idle=True, drivers=MYSQLCLIENT)
def assigned_cursor_class(s: Session) -> Any:
    """Not PyMySQL's: its last fetchmany() gives a list, and Django waits for a tuple, with its own engine too."""
    from MySQLdb import cursors

    raw(s).cursorclass = cursors.DictCursor


@kind(leaves=True, idle=True, drivers=MYSQL)
def assigned_decoder(s: Session) -> Any:
    """Numbers come as floats."""
    conn = raw(s)
    table = conn.converter if s.site.driver == "mysqlclient" else conn.decoders
    table[246] = float


@kind(drivers=MYSQL)
def read_decimal(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute("SELECT CAST(1.5 AS DECIMAL(5, 2))")
        return cursor.fetchone()
