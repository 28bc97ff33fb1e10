"""The cursor that Django gets: its real cursor is made when it executes, on the connection that the lease takes then."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Self

from gevent import getcurrent

from djworker.db.lease.errors import CursorClosed
from djworker.db.lease.pinning import PLAIN, UNSURE, Verdict
from djworker.db.lease.raw_connection import LeasedConnection
from djworker.db.lease.raw_names import CURSORS, Treatment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djworker.db.lease.lease import Lease
    from djworker.db.lease.protocols import Leasing, RawCursor

#: Before anything was executed: PEP 249's, so that it costs no connection.
_UNUSED: Final = {"description": None, "rowcount": -1, "lastrowid": None, "_query": None}


class LeasedCursor:
    """[worker] A DB-API cursor. The rows of a client-side cursor outlive the connection's return."""

    __slots__ = ("__weakref__", "_holding", "_lease", "_name", "_raw", "_stable", "_wanted", "_wrapper", "closed")

    def __init__(self, wrapper: Leasing, lease: Lease, name: str | None) -> None:
        self._wrapper = wrapper
        self._lease = lease
        self._name = name
        self._raw: Any = None
        self._holding = False
        self._wanted: dict[str, object] | None = None  # attributes that were set before there was a real cursor
        self.closed = False

    # -- executing --------------------------------------------------------------------------------------------------

    def execute(self, sql: Any, params: object = None, **more: object) -> object:
        """As the driver's."""
        lease = self._lease
        leased_pool = lease.leased_pool
        contract = leased_pool.contract
        verdict = contract.known(sql) if type(sql) is str and not more else None
        if leased_pool.spliced is not None and params and leased_pool.spliced(params):
            verdict = None
        if verdict is None or not lease.turn.acquire(blocking=False):
            return self._run("execute", sql, (params,), more)
        user: Any = getcurrent()
        lease.user = user
        user.djworker_statement = sql
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

    def executemany(self, sql: object, params: Any, **more: object) -> object:
        """As the driver's."""
        if self._lease.leased_pool.client_library.reads_parameters_early and not isinstance(params, list | tuple):
            params = list(params)
        return self._run("executemany", sql, (params,), more)

    def copy_expert(self, sql: object, *args: object, **more: object) -> object:
        """As psycopg2's, which refuses it to every green library."""
        return self._run("copy_expert", sql, args, more)

    def callproc(self, name: object, *args: object, **more: object) -> object:
        """As the driver's. A procedure may leave more than one result."""
        return self._run("callproc", name, args, more)

    def _run(self, method: str, sql: object, args: tuple[object, ...], more: dict[str, object]) -> object:
        """The long way: the text was not seen before, it is something rare, or it is not our turn."""
        user: Any = getcurrent()
        user.djworker_statement = sql
        text, verdict = self._judged(method, sql, args[0] if args else None)
        if method == "executemany":
            verdict = replace(verdict, rounds=True)
        lease = self._lease
        with lease.statement(verdict):
            try:
                raw = self._real(verdict)
                result = getattr(raw, method)(sql, *args, **more)
                verdict = lease.leased_pool.contract.confirm(verdict, lease.driver, lease.conn, raw, text)
                # Of several rounds it is not known what was set: {} is no sequence, so that it pins.
                self._finish(raw, verdict, text, args[0] if args and method == "execute" else {})
            except BaseException:
                lease.failed(verdict)
                raise
        return self if result is raw else result

    def _judged(self, method: str, sql: object, params: object = None) -> tuple[str, Verdict]:
        """The text, and what it may do."""
        lease = self._lease
        contract = lease.leased_pool.contract
        try:
            text = self._text(sql)
            if lease.leased_pool.spliced is not None and params and (more := lease.leased_pool.spliced(params)):
                text = f"{text} {more}"
            return contract.judge_procedure(text) if method == "callproc" else (text, contract.judge(text))
        except BaseException:  # to compose a text takes a connection, which may be refused
            lease.missed(UNSURE)
            raise

    def _finish(self, raw: RawCursor, verdict: Verdict, sql: Any, params: object) -> None:
        lease = self._lease
        detach = lease.leased_pool.detach
        if detach is not None and not self._holding:
            kept = detach(lease.conn, raw)
            if kept is None:
                self._hold()
            else:
                self._raw = kept
        lease.done(verdict, sql, params)

    def _text(self, sql: object) -> str:
        if isinstance(sql, str):
            return sql
        if isinstance(sql, bytes):
            return sql.decode(errors="replace")
        if not hasattr(sql, "as_string"):
            # A template, whose parts stand in it; or nothing that a library takes, which says so itself.
            return str(sql)
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
            self._lease.leased_pool.client_library.own(raw)
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
    def copy(self, sql: object, *args: object, **more: object) -> Iterator[object]:
        """Psycopg 3's COPY: the connection is held until its end."""
        with self._held_for("copy", sql) as raw, raw.copy(sql, *args, **more) as copy:
            leased = LeasedCopy(self, copy)
            try:
                yield leased
            finally:
                leased.end()

    def stream(self, sql: object, *args: object, **more: object) -> Iterator[object]:
        """Psycopg 3's rows one by one: the connection is held until the last."""
        with self._held_for("stream", sql) as raw:
            yield from raw.stream(sql, *args, **more)

    @contextmanager
    def _held_for(self, method: str, sql: object) -> Iterator[Any]:
        """A real cursor for a statement that goes on after the call; judged as every other, at its end."""
        text, verdict = self._judged(method, sql)
        lease = self._lease
        try:
            with lease.statement(verdict):
                raw = self._real(verdict)
                self._hold()
                try:
                    yield raw
                    verdict = lease.leased_pool.contract.confirm(verdict, lease.driver, lease.conn, raw, text)
                    lease.done(verdict, text, {})
                except BaseException:
                    if verdict.relied_on:  # and it may have done its work by now
                        verdict = replace(verdict, pin=f"{method}() that was not read to its end")
                    lease.failed(verdict)
                    raise
        finally:
            self._release()

    def nextset(self) -> object:
        """The next result, if there is one; the connection goes back after the last."""
        raw = self._need_held()
        try:
            found = self._lease.leased_pool.client_library.next_result(raw)
        except BaseException:
            self._release()
            self._lease.failed()
            raise
        detach = self._lease.leased_pool.detach
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

    def _need_held(self) -> Any:
        """Likewise. A cursor whose rows are in the server is of no use without its connection, which is another lease's now."""
        raw = self._need()
        if self._holding and self._lease.held() is None:
            raise CursorClosed(self._lease.lost or "the connection of the cursor is closed")
        return raw

    def fetchone(self) -> object:
        """As the driver's."""
        raw = self._raw
        if raw is None or self.closed or self._holding:
            return self._fetch("fetchone")
        return raw.fetchone()

    def fetchmany(self, *args: object, **more: object) -> object:
        """As the driver's."""
        raw = self._raw
        if raw is None or self.closed or self._holding:
            return self._fetch("fetchmany", *args, **more)
        return raw.fetchmany(*args, **more)

    def fetchall(self) -> object:
        """As the driver's."""
        raw = self._raw
        if raw is None or self.closed or self._holding:
            return self._fetch("fetchall")
        return raw.fetchall()

    def _fetch(self, method: str, *args: object, **more: object) -> object:
        """Rows that come from the server: a greenlet that is killed here leaves the connection unusable."""
        raw = self._need_held()
        if self._lease.conn is not None:
            self._lease.conn.lease_record.statements += 1  # a FETCH is one
        try:
            return getattr(raw, method)(*args, **more)
        except BaseException:
            self._lease.failed()
            raise

    def _moved(self, method: str, *args: object, **more: object) -> object:
        """To other rows. Psycopg 3 gives the cursor itself, and the real one leads to a connection."""
        found = self._fetch(method, *args, **more)
        return self if found is self._raw else found

    def _results(self, method: str) -> Iterator[Self]:
        results: Any = self._fetch(method)
        return (self for _ in results)

    def scroll(self, *args: object, **more: object) -> object:
        """As the driver's; of a server-side cursor it is a statement."""
        return self._fetch("scroll", *args, **more)

    def fetchall_unbuffered(self) -> Iterator[object]:
        """As PyMySQL's, of an SSCursor."""
        return self._guarded_rows(self._need_held().fetchall_unbuffered())

    def read_next(self) -> object:
        """As PyMySQL's, of an SSCursor."""
        return self._fetch("read_next")

    def __iter__(self) -> Iterator[object]:
        rows = iter(self._need_held())
        return self._guarded_rows(rows) if self._holding else chain(rows)  # a library's cursor may be its own iterator

    def _guarded_rows(self, rows: Iterator[object]) -> Iterator[object]:
        """Rows that come from the server while they are read; see `_fetch`."""
        try:
            for row in rows:
                yield row
                self._need_held()
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

    def __getattr__(self, name: str) -> object:
        """`description`, `rowcount`, `lastrowid`, `statusmessage`… of the real cursor; see `raw_names`."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self._answer(name)

    def _answer(self, name: str) -> object:
        driver = self._lease.driver
        answer = CURSORS[driver.name].get(name)
        if answer is Treatment.FACT:
            return self._fact(name)
        if answer is Treatment.FUNCTION:
            return getattr(self._unused(), name)
        if answer is Treatment.ROWS:
            return partial(self._results if name == "results" else self._moved, name)
        if answer is Treatment.SELF:
            return self.connection
        wraps = self._lease.leased_pool.client_library.wraps_cursors
        return self if name == "cursor" and wraps else self._opened(name)

    def _fact(self, name: str) -> object:
        if self._raw is not None:
            return self._lease.leased_pool.client_library.fact(name, self._raw, self._lease)
        return _UNUSED[name] if name in _UNUSED else getattr(self._unused(), name)

    @property
    def connection(self) -> object:
        """What Django has in `connection.connection`. The library's own belongs to the lease, and perhaps to another one now."""
        ours = self._wrapper.connection
        return ours if getattr(ours, "lease", None) is self._lease else LeasedConnection(self._lease)

    def _unused(self, before: str = "") -> Any:
        """A real cursor that has executed nothing, to be asked before the next switch. before: see `Lease.look_before`."""
        if self.closed:
            raise CursorClosed("the cursor is closed")
        conn = self._lease.look_before(before) if before else self._lease.look()
        return self._wrapper.raw_cursor(conn, self._name)

    def psycopg2_object(self, function: str, *, keeps: bool) -> Any:
        """The library's own cursor, for one of its functions: to read from, or to keep something in it."""
        return self._open(f"{function}()") if keeps else self._unused()

    def _opened(self, name: str) -> object:
        raw = getattr(self._raw, "raw", self._raw)
        known = self._unused(f"cursor.{name}") if raw is None else raw
        if known.connection is None or not hasattr(known, name):  # cut loose, so that nothing leads to a connection
            return getattr(known, name)
        return getattr(self._open(f"cursor.{name}"), name)

    def _open(self, what: str) -> Any:
        """Code goes behind the cursor: the connection is held and replaced, and the real cursor stays the same."""
        raw, conn = getattr(self._raw, "raw", self._raw), self._lease.opened(what)
        self._stable = raw if raw is not None and raw.connection is conn else self._wrapper.raw_cursor(conn, self._name)
        if self._raw is None:
            self._raw = self._stable
        self.__class__ = OpenedCursor
        return self._stable


class OpenedCursor(LeasedCursor):
    """[worker] A cursor that was looked behind: one real cursor for all its statements, on the connection that is held."""

    __slots__ = ()

    def _real(self, verdict: Verdict = PLAIN) -> Any:
        stable = self._stable
        if self.closed or self._holding or stable.connection is not self._lease.take(verdict):
            return super()._real(verdict)
        self._raw = stable
        return stable

    def _finish(self, raw: RawCursor, verdict: Verdict, sql: Any, params: object) -> None:  # noqa: ARG002 - as of the cursor that it becomes one of
        self._lease.done(verdict, sql, params)


class LeasedCopy:
    """[worker] psycopg's `Copy`, but for what leads to the connection: it is another request's when the COPY is over."""

    __slots__ = ("_copy", "_over", "cursor")

    def __init__(self, cursor: LeasedCursor, copy: Any) -> None:
        self._copy = copy
        self._over: list[bool] = []  # not empty when the COPY is over; shared with the parts
        self.cursor = cursor

    @classmethod
    def part(cls, whole: LeasedCopy, value: object) -> Self:
        """`writer`, `formatter` and its `transformer`: they lead to the connection, too."""
        part = cls(whole.cursor, value)
        part._over = whole._over
        return part

    def end(self) -> None:
        """From now on nothing is written: psycopg itself would put it into the next COPY of the connection."""
        self._over.append(True)

    @property
    def connection(self) -> object:
        """That of the cursor."""
        return self.cursor.connection

    @property  # type: ignore[misc]  # as unittest.mock's `spec` does it
    def __class__(self) -> type[Any]:
        return type(self._copy)

    def __iter__(self) -> Iterator[object]:
        return iter(self._copy)

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._copy, name)
        if name in _COPY_PARTS:
            return self.part(self, value)
        return partial(self._send, value) if name in _COPY_SENDS else value

    def _send(self, method: Any, *args: object, **more: object) -> object:
        if self._over:
            raise CursorClosed("the COPY is over")
        return method(*args, **more)


_COPY_PARTS: Final = frozenset({"writer", "formatter", "transformer"})
_COPY_SENDS: Final = frozenset({"write", "write_row", "finish"})


def _forwarded(name: str) -> property:
    def read(self: LeasedCursor) -> object:
        if self._raw is None and self._wanted and name in self._wanted:
            return self._wanted[name]
        return 1 if self._raw is None and name == "arraysize" else self._answer(name)

    def write(self: LeasedCursor, value: object) -> None:
        if self._raw is not None:
            setattr(self._raw, name, value)
        self._wanted = {**(self._wanted or {}), name: value}

    return property(read, write)


# What code sets on a cursor: it holds for the real cursors of all its statements.
for _name in [
    "arraysize",
    "itersize",
    "row_factory",
    "tzinfo_factory",
    "format",
    "scrollable",
    "withhold",
    "string_types",
    "binary_types",
    "max_stmt_length",
    "max_multi_stmt_length",
    "max_multi_stmt_count",
    "executemany_fallback",
]:
    setattr(LeasedCursor, _name, _forwarded(_name))
