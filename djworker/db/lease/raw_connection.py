"""What stands in Django's `connection.connection`: the client library's connection to look at, and a lease behind it.

Code that takes Django at its word finds all of the library's names here. What is harmless (`raw_names`) is answered by a
connection that is given back at once. For everything else, and for each assignment, the lease holds one from then on, and it
is replaced at the end of the request: what was done to the library's object reaches no other request.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from djworker.db.lease.errors import LeaseClosed
from djworker.db.lease.pinning import Verdict
from djworker.db.lease.raw_names import CONNECTIONS, INFOS, LIBRARY, Names, Treatment

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.db.lease.lease import Lease

    #: (connection) -> the object that has the name: itself, or its `info`.
    Where = Callable[[Any], object]

#: Never the library's: pickling, copying and introspection ask for them, and the class answers what it knows.
_SPECIAL: Final = "__"


class LeasedConnection:
    """[worker] The library's connection, as far as anything outside the lease can see.

    One for each lease, and dead with it. It calls itself an instance of the library's class, for code that asks
    (`TypeInfo.fetch`, `psycopg.sql`). Types written in C want the real thing and refuse it with a TypeError; psycopg2's
    functions get it (`drivers.psycopg2_functions`).
    """

    __slots__ = ("__weakref__", "lease")

    lease: Lease

    def __init__(self, lease: Lease) -> None:
        object.__setattr__(self, "lease", lease)

    @property  # type: ignore[misc]  # as unittest.mock's `spec` does it
    def __class__(self) -> type[Any]:
        return self.lease.driver.connection_type

    # -- answered by the lease, whatever it holds --------------------------------------------------------------------

    def commit(self) -> None:
        """End our transaction, if there is one."""
        _alive_or_refuse(self.lease)
        self.lease.commit()

    def rollback(self) -> None:
        """End our transaction, if there is one."""
        _alive_or_refuse(self.lease)
        self.lease.rollback()

    def close(self) -> None:
        """End the lease: Django's connection is of no use until Django closes it too."""
        self.lease.close()

    def psycopg2_object(self, function: str, *, keeps: bool) -> Any:
        """The library's own connection, for one of its functions: to read from, or to keep something in it."""
        return self.lease.opened(f"{function}()") if keeps else self.lease.look()

    def __enter__(self) -> Self:
        self.lease.leased_pool.client_library.enter(self)
        return self

    def __exit__(self, *exc_info: object) -> object:
        return self.lease.leased_pool.client_library.leave(self, *exc_info)

    def __repr__(self) -> str:
        return f"<LeasedConnection of {self.lease.leased_pool.alias!r}, holds {self.lease.conn!r}>"

    def __dir__(self) -> list[str]:
        return sorted({*dir(LeasedConnection), *dir(self.lease.driver.connection_type)})

    # -- answered by a connection ------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> object:
        if name.startswith(_SPECIAL):
            raise AttributeError(name)
        return _answer(self, self.lease, name)

    def __setattr__(self, name: str, value: object) -> None:
        lease = self.lease
        if CONNECTIONS[lease.driver.name].answers.get(name) is Treatment.MODE and not callable(
            getattr(lease.driver.connection_type, name, callable)
        ):
            _set_mode(lease, name, value)
        elif name in _OURS:
            raise AttributeError(f"{LIBRARY}{name} belongs to the lease and cannot be set")
        else:
            setattr(lease.opened(f"{LIBRARY}{name} = …"), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.lease.opened(f"del {LIBRARY}{name}"), name)


_OURS: Final = frozenset({"commit", "rollback", "close", "lease", "closed", "broken", "open", "connection", "info"})


#: Of those that are about the last statement.
_SENDS: Final = frozenset({"show_warnings"})


class LeasedInfo:
    """[worker] psycopg's and psycopg2's `ConnectionInfo`, of the lease."""

    __slots__ = ("__weakref__", "_lease", "_names")

    def __init__(self, lease: Lease, names: Names) -> None:
        self._lease = lease
        self._names = names

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:
        return self._lease.driver.info_type

    def __getattr__(self, name: str) -> object:
        answer = self._names.answers.get(name)
        if answer is not None:
            return _ANSWERS[answer](self._lease, name, self._names, _info)
        if name.startswith("_") or not hasattr(self._lease.driver.info_type, name):
            raise AttributeError(f"{self._lease.driver.info_type.__name__!r} object has no attribute {name!r}")
        return getattr(self._lease.opened(f"{LIBRARY}info.{name}").info, name)

    def __dir__(self) -> list[str]:
        return dir(self._lease.driver.info_type)


def _alive_or_refuse(lease: Lease) -> None:
    if lease.closed:
        raise LeaseClosed("the connection is closed")


def _itself(conn: Any) -> Any:
    return conn


def _info(conn: Any) -> Any:
    return conn.info


def _answer(door: LeasedConnection, lease: Lease, name: str) -> object:
    names = CONNECTIONS[lease.driver.name]
    answer = names.answers.get(name)
    if answer is Treatment.SELF:
        return door
    if answer is Treatment.INFO:
        return LeasedInfo(lease, INFOS[lease.driver.name])
    if answer is not None:
        return _ANSWERS[answer](lease, name, names, _itself)
    # Code that asks whether there is such a thing (`hasattr`) gets an answer, and holds nothing for a No.
    if not hasattr(lease.driver.connection_type, name) and not hasattr(lease.look_before(f"{LIBRARY}{name}"), name):
        raise AttributeError(f"{lease.driver.connection_type.__name__!r} object has no attribute {name!r}")
    return getattr(lease.opened(f"{LIBRARY}{name}"), name)


def _fact(lease: Lease, name: str, _names: Names, where: Where) -> object:
    return getattr(where(lease.look()), name)


def _function(lease: Lease, name: str, _names: Names, where: Where) -> object:
    def call(*args: object, **more: object) -> object:
        return getattr(where(lease.look()), name)(*args, **more)

    return call


def _exchange(lease: Lease, name: str, _names: Names, _where: Where) -> object:
    return partial(_call, lease, name, Verdict())


def _last_result(lease: Lease, name: str, _names: Names, _where: Where) -> object:
    # mysqlclient's number stays over statements that make none: it may be a stranger's, like LAST_INSERT_ID().
    of_write = name == "insert_id" and lease.driver.name == "mysqlclient"
    call = _call if name in _SENDS else _call_unsent
    if lease.is_opened and lease.is_cleared:
        return partial(call, lease, name, Verdict())
    return partial(call, lease, name, Verdict(reads=f"{LIBRARY}{name}", of_write=of_write))


def _call_unsent(lease: Lease, name: str, verdict: Verdict, *args: object) -> object:
    """What the library knows by itself. No statement has run: the next question is about the same one as this."""
    with lease.statement(verdict):
        conn = lease.take(verdict)
        conn.lease_record.statements -= 1
        try:
            result = getattr(conn, name)(*args)
        except BaseException:
            lease.failed(verdict)
            raise
        lease.release_if_free()
    return result


def _call(lease: Lease, name: str, verdict: Verdict, *args: object, **more: object) -> object:
    with lease.statement(verdict):
        conn = lease.take(verdict)
        try:
            result = getattr(conn, name)(*args, **more)
        except BaseException:
            lease.failed(verdict)
            raise
        lease.release_if_free()
    return result


def _identity(lease: Lease, name: str, names: Names, where: Where) -> object:
    def call() -> object:
        return _number(lease, name, names, where)()

    return call


def _number(lease: Lease, name: str, _names: Names, where: Where) -> Any:
    conn = lease.take(Verdict(identity=name))
    lease.pin(f"{LIBRARY}{name}", wipe=False)
    return getattr(where(conn), name)


def _state(lease: Lease, name: str, names: Names, where: Where) -> object:
    lease.look_for_a_loss()
    conn = lease.conn
    if conn is not None:
        return getattr(where(conn), name)
    value = (names.over if lease.closed or lease.lost else names.idle)[name]
    kind = lease.driver.states.get(name)
    value = value if kind is None else kind(value)
    return (lambda: value) if callable(getattr(lease.driver.connection_type, name, None)) else value


def _mode(lease: Lease, name: str, _names: Names, _where: Where) -> object:
    if not callable(getattr(lease.driver.connection_type, name, None)):
        return lease.mode()
    return lease.mode if name == "get_autocommit" else partial(_set_mode, lease, name)


def _set_mode(lease: Lease, name: str, value: object) -> None:
    """To what it is: changes nothing. Else the library's object has it, and goes with it: as with Django's own engine."""
    lease.look_for_a_loss()
    conn = lease.conn
    if bool(value) is not lease.mode():
        conn = lease.opened(f"{LIBRARY}{name}")
    if conn is None:
        lease.refuse_if_over()
        return
    if callable(getattr(lease.driver.connection_type, name)):
        getattr(conn, name)(value)
    else:
        setattr(conn, name, value)  # in a transaction refused by the library, even if it is that already
    lease.mode_was_set(bool(value))


def _alive(lease: Lease, name: str, _names: Names, _where: Where) -> object:
    lease.look_for_a_loss()
    if name == "broken":
        return bool(lease.lost)
    over = lease.closed or bool(lease.lost)
    return over if name == "closed" else not over


def _constant(lease: Lease, name: str, _names: Names, _where: Where) -> object:
    return getattr(lease.driver.connection_type, name)


_ANSWERS: dict[Treatment, Callable[[Lease, str, Names, Where], object]] = {
    Treatment.FACT: _fact,
    Treatment.FUNCTION: _function,
    Treatment.EXCHANGE: _exchange,
    Treatment.IDENTITY: _identity,
    Treatment.NUMBER: _number,
    Treatment.STATE: _state,
    Treatment.LAST_RESULT: _last_result,
    Treatment.MODE: _mode,
    Treatment.CONSTANT: _constant,
    Treatment.ALIVE: _alive,
}
