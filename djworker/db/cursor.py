"""The cursor that Django gets: its real cursor is made when it executes, on the connection that the lease takes then."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from inspect import isroutine
from typing import TYPE_CHECKING, Any, Final, Self

from gevent import getcurrent

from djworker.db.lease_errors import CursorClosed
from djworker.db.pins import PLAIN, UNSURE, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djworker.db.lease import Lease

#: Methods of the libraries' cursors that send nothing and read nothing from the server. Other methods that this module does not
#: have itself are refused: a text that they sent would be neither judged nor confirmed.
HARMLESS: Final = frozenset(
    {"cast", "literal", "mogrify", "results", "set_result", "setinputsizes", "setoutputsize", "setoutputsizes"}
)


class LeasedCursor:
    """[worker] A DB-API cursor. The rows of a client-side cursor outlive the connection's return."""

    __slots__ = ("__weakref__", "_holding", "_lease", "_name", "_raw", "_wanted", "_wrapper", "closed")

    def __init__(self, wrapper: Any, lease: Lease, name: str | None) -> None:
        self._wrapper = wrapper
        self._lease = lease
        self._name = name
        self._raw: Any = None
        self._holding = False
        self._wanted: dict[str, Any] | None = None  # attributes that were set before there was a real cursor
        self.closed = False

    # -- executing --------------------------------------------------------------------------------------------------

    def execute(self, sql: Any, params: Any = None, **more: Any) -> Any:
        """As the driver's."""
        lease = self._lease
        contract = lease.home.contract
        verdict = contract.known(sql) if type(sql) is str and not more else None
        if verdict is None or not lease.turn.acquire(blocking=False):
            return self._run("execute", sql, (params,), more)
        lease.user = getcurrent()
        try:
            raw = self._real(verdict)
            result = raw.execute(sql, params)
            if contract.volatile:
                verdict = contract.confirm(verdict, lease.driver, lease.conn, raw, sql)
            self._finish(raw, verdict, sql, params)
        except BaseException:
            lease.failed(verdict)
            raise
        finally:
            lease.turn.release()
        return self if result is raw else result

    def executemany(self, sql: Any, params: Any, **more: Any) -> Any:
        """As the driver's."""
        if self._lease.home.dialect.reads_parameters_early and not isinstance(params, list | tuple):
            params = list(params)
        return self._run("executemany", sql, (params,), more)

    def copy_expert(self, sql: Any, *args: Any, **more: Any) -> Any:
        """As psycopg2's, which refuses it to every green library."""
        return self._run("copy_expert", sql, args, more)

    def callproc(self, name: Any, *args: Any, **more: Any) -> Any:
        """As the driver's. A procedure may leave more than one result."""
        return self._run("callproc", name, args, more)

    def _run(self, method: str, sql: Any, args: tuple[Any, ...], more: dict[str, Any]) -> Any:
        """The long way: the text was not seen before, it is something rare, or it is not our turn."""
        text, verdict = self._judged(method, sql)
        lease = self._lease
        with lease.statement(verdict):
            try:
                raw = self._real(verdict)
                result = getattr(raw, method)(sql, *args, **more)
                verdict = lease.home.contract.confirm(verdict, lease.driver, lease.conn, raw, text)
                # Of several rounds nobody knows what was set: {} is no sequence, so that it pins.
                self._finish(raw, verdict, text, args[0] if args and method == "execute" else {})
            except BaseException:
                lease.failed(verdict)
                raise
        return self if result is raw else result

    def _judged(self, method: str, sql: Any) -> tuple[str, Verdict]:
        """The text, and what it may do."""
        lease = self._lease
        contract = lease.home.contract
        try:
            text = self._text(sql)
            return contract.judge_procedure(text) if method == "callproc" else (text, contract.judge(text))
        except BaseException:  # to compose a text takes a connection, which may be refused
            lease.missed(UNSURE)
            raise

    def _finish(self, raw: Any, verdict: Verdict, sql: Any, params: Any) -> None:
        lease = self._lease
        detach = lease.home.detach
        if detach is not None and not self._holding:
            kept = detach(lease.conn, raw)
            if kept is None:
                self._hold()
            else:
                self._raw = kept
        lease.done(verdict, sql, params)

    def _text(self, sql: Any) -> str:
        if isinstance(sql, str):
            return sql
        if isinstance(sql, bytes):
            return sql.decode(errors="replace")
        with self._wrapper.physical():
            return str(sql.as_string(self._wrapper.connection))

    def _real(self, verdict: Verdict = PLAIN) -> Any:
        """A new real cursor, on the connection that this statement runs on."""
        if self.closed:
            raise CursorClosed("the cursor is closed")
        if self._holding:
            self._release()
        self._raw = None  # or, if there is no connection, its rows would pass for the answer to this statement
        raw = self._raw = self._wrapper.raw_cursor(self._lease.take(verdict), self._name)
        if self._name:
            self._lease.home.dialect.own(raw)
            self._hold()
        if self._wanted:
            for name, value in self._wanted.items():
                setattr(raw, name, value)
        return raw

    # -- holding ----------------------------------------------------------------------------------------------------

    def _hold(self) -> None:
        if not self._holding:
            self._holding = True
            self._lease.hold()

    def _release(self) -> None:
        if self._holding:
            self._holding = False
            self._lease.unhold()

    @contextmanager
    def copy(self, sql: Any, *args: Any, **more: Any) -> Iterator[Any]:
        """Psycopg 3's COPY: the connection is held until its end."""
        with self._held_for("copy", sql) as raw, raw.copy(sql, *args, **more) as copy:
            yield copy

    def stream(self, sql: Any, *args: Any, **more: Any) -> Iterator[Any]:
        """Psycopg 3's rows one by one: the connection is held until the last."""
        with self._held_for("stream", sql) as raw:
            yield from raw.stream(sql, *args, **more)

    @contextmanager
    def _held_for(self, method: str, sql: Any) -> Iterator[Any]:
        """A real cursor for a statement that goes on after the call; judged as every other, at its end."""
        text, verdict = self._judged(method, sql)
        lease = self._lease
        try:
            with lease.statement(verdict):
                raw = self._real(verdict)
                self._hold()
                try:
                    yield raw
                    verdict = lease.home.contract.confirm(verdict, lease.driver, lease.conn, raw, text)
                    lease.done(verdict, text, {})
                except BaseException:
                    if verdict.relied_on:  # and it may have done its work by now
                        verdict = replace(verdict, pin=f"{method}() that was not read to its end")
                    lease.failed(verdict)
                    raise
        finally:
            self._release()

    def nextset(self) -> Any:
        """The next result, if there is one; the connection goes back after the last."""
        raw = self._need()
        try:
            found = self._lease.home.dialect.next_result(raw)
        except BaseException:
            self._release()
            self._lease.failed()
            raise
        detach = self._lease.home.detach
        if (
            self._holding
            and not self._name
            and detach is not None
            and (kept := detach(self._lease.conn, raw)) is not None
        ):
            self._raw = kept
            self._release()
        return found

    # -- rows -------------------------------------------------------------------------------------------------------

    def _need(self) -> Any:
        if self.closed:
            raise CursorClosed("the cursor is closed")
        if self._raw is None:
            raise CursorClosed("nothing was executed on this cursor")
        return self._raw

    def fetchone(self) -> Any:
        """As the driver's."""
        raw = self._raw
        if raw is None or self.closed or self._holding:
            return self._fetch("fetchone")
        return raw.fetchone()

    def fetchmany(self, *args: Any, **more: Any) -> Any:
        """As the driver's."""
        raw = self._raw
        if raw is None or self.closed or self._holding:
            return self._fetch("fetchmany", *args, **more)
        return raw.fetchmany(*args, **more)

    def fetchall(self) -> Any:
        """As the driver's."""
        raw = self._raw
        if raw is None or self.closed or self._holding:
            return self._fetch("fetchall")
        return raw.fetchall()

    def _fetch(self, method: str, *args: Any, **more: Any) -> Any:
        """Rows that come from the server: a greenlet that is killed here leaves the connection unusable."""
        raw = self._need()
        if self._lease.conn is not None:
            self._lease.conn.lease_statements += 1  # a FETCH is one
        try:
            return getattr(raw, method)(*args, **more)
        except BaseException:
            self._lease.failed()
            raise

    def scroll(self, *args: Any, **more: Any) -> Any:
        """As the driver's; of a server-side cursor it is a statement."""
        return self._fetch("scroll", *args, **more)

    def fetchall_unbuffered(self) -> Iterator[Any]:
        """As PyMySQL's, of an SSCursor."""
        return self._guarded_rows(self._need().fetchall_unbuffered())

    def read_next(self) -> Any:
        """As PyMySQL's, of an SSCursor."""
        return self._fetch("read_next")

    def __iter__(self) -> Iterator[Any]:
        rows = iter(self._need())
        return self._guarded_rows(rows) if self._holding else rows

    def _guarded_rows(self, rows: Iterator[Any]) -> Iterator[Any]:
        """Rows that come from the server while they are read; see `_fetch`."""
        try:
            yield from rows
        except GeneratorExit:
            raise
        except BaseException:
            self._lease.failed()
            raise

    # -- its end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close; a server-side cursor gives its connection back."""
        if self.closed:
            return
        self.closed = True
        raw = self._raw
        if raw is None:
            return
        if not self._holding:
            raw.close()
            return
        try:
            if self._lease.held() is not None:
                raw.close()
        except BaseException:
            self._lease.failed()
            raise
        finally:
            self._release()

    def __del__(self) -> None:
        """Dropped while it is open in the server: no I/O here, so the session is wiped at the end of the request."""
        if self._holding and not self.closed and not self._lease.closed:
            self._lease.pin("a server-side cursor that was never closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- everything else --------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """`description`, `rowcount`, `lastrowid`, `statusmessage`… of the real cursor."""
        if name.startswith("__"):
            raise AttributeError(name)
        if self._raw is None:
            if name == "description":
                return None
            if name in ("rowcount", "lastrowid"):
                return -1 if name == "rowcount" else None
            with self._wrapper.physical():
                cursor = self._wrapper.create_cursor()
            return _offered(getattr(cursor, name), name)
        return _offered(getattr(self._raw, name), name)


def _offered(value: Any, name: str) -> Any:
    if isroutine(value) and name not in HARMLESS:
        raise AttributeError(
            f"cursor.{name}() is not offered on a pooled connection, where its effect on the session could not be seen: use"
            " execute(), or connection.connection.cursor(), which keeps the connection to the end of the request",
            name=name,
        )
    return value


def _forwarded(name: str) -> property:
    def read(self: LeasedCursor) -> Any:
        raw = self._raw
        if raw is None:
            return (self._wanted or {}).get(name, 1 if name == "arraysize" else None)
        return getattr(raw, name)

    def write(self: LeasedCursor, value: Any) -> None:
        self._wanted = {**(self._wanted or {}), name: value}
        if self._raw is not None:
            setattr(self._raw, name, value)

    return property(read, write)


for _name in ("arraysize", "itersize", "row_factory", "tzinfo_factory"):
    setattr(LeasedCursor, _name, _forwarded(_name))
