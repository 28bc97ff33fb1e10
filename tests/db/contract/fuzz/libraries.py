"""What a client library keeps in its connection object, as text: before a lease and after it must be the same."""

from __future__ import annotations

from typing import Any

#: What changes with each connection or statement and is nobody's setting.
PASSING = frozenset(
    {
        "_begin_statement",
        "_next_seq_id",
        "_read_timeout",
        "_result",
        "_rfile",
        "_secure",
        "_sock",
        "abandoned",
        "affected_rows",
        "backend",
        "cursor_info",
        "dsn",
        "errno",
        "error",
        "fd",
        "field_count",
        "get_host_info",
        "handle",
        "host_info",
        "info",
        "insert_id",
        "isexecuting",
        "lease_at",
        "lease_profile",
        "lease_spoilt",
        "lease_statements",
        "lease_turn",
        "line",
        "lock",
        "login",
        "messages",
        "more_results",
        "next_result",
        "open",
        "params",
        "pgconn",
        "pgconn_ptr",
        "rewind_connection",
        "salt",
        "server_status",
        "server_thread_id",
        "sqlstate",
        "stat",
        "thread_id",
        "warning_count",
        "watch",
        "wire",
    }
)


def described(value: Any) -> Any:
    """A value that can be compared with one of later, or of another connection."""
    if isinstance(value, bool | int | float | str | bytes | type(None)):
        return value
    if isinstance(value, dict):
        return {repr(key): described(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) or type(value).__name__ == "deque":
        return [described(item) for item in value]
    name = getattr(value, "__qualname__", None) or getattr(value, "name", None)
    return f"{type(value).__name__} {name}" if isinstance(name, str) else type(value).__name__


def state_of(conn: Any) -> dict[str, Any]:
    """All that `dir()` shows of a connection and that is no method."""
    found: dict[str, Any] = {}
    for name in dir(conn):
        if name.startswith(("__", "lease_")) or name in PASSING or name.lstrip("_") in PASSING:
            continue
        try:
            value = getattr(conn, name)
        except Exception as error:  # noqa: BLE001 - that is an answer, too
            value = f"raises {type(error).__name__}"
        if not callable(value) or isinstance(value, type) or name.endswith("_factory"):
            found[name] = described(value)
    if hasattr(conn, "adapters"):
        found["adapters"] = adapters_of(conn.adapters)
    return found


def adapters_of(adapters: Any) -> Any:
    """psycopg 3's, of this connection."""
    tables = [*adapters._loaders, *adapters._dumpers_by_oid, *adapters._dumpers.values()]
    return [{str(key): described(found) for key, found in table.items()} for table in tables]


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is no longer as it was."""
    names = sorted(before.keys() | after.keys())
    return [
        f"{name}: {before.get(name, 'absent')!r} became {after.get(name, 'absent')!r}"
        for name in names
        if before.get(name) != after.get(name)
    ]
