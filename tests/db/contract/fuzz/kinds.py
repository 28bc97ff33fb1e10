"""What a step can be, for every driver: Django's models, cursors, transactions and hooks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gevent

from djworker.deadlines import RequestTimeout

if TYPE_CHECKING:
    from tests.db.contract.fuzz.sides import Session

NAMES = tuple("abcdefgh")
DRIVERS = frozenset({"psycopg3", "psycopg2", "mysqlclient", "pymysql"})
POSTGRES = frozenset({"psycopg3", "psycopg2"})
MYSQL = DRIVERS - POSTGRES


@dataclass(frozen=True)
class Kind:
    """One kind of step.

    weight: how often it is drawn. block: 0 for a step without steps inside, 1 for one step, more for several. leaves: its
    statement changes the session, so that what follows it relies on it. idle: it does not go to the server, or need not.
    """

    name: str
    run: Callable[..., Any]
    make: Callable[[random.Random], tuple[Any, ...]]
    weight: float
    block: int
    leaves: bool
    idle: bool
    drivers: frozenset[str]


KINDS: dict[str, Kind] = {}


def no_args(_rng: random.Random) -> tuple[Any, ...]:
    """For kinds without arguments."""
    return ()


def one_of(*values: Any) -> Callable[[random.Random], tuple[Any, ...]]:
    """One argument, one of these."""
    return lambda rng: (rng.choice(values),)


def some(*choices: tuple[Any, ...]) -> Callable[[random.Random], tuple[Any, ...]]:
    """An argument from each of these."""
    return lambda rng: tuple(rng.choice(values) for values in choices)


def kind(
    make: Callable[[random.Random], tuple[Any, ...]] = no_args,
    *,
    weight: float = 1.0,
    block: int = 0,
    leaves: bool = False,
    idle: bool = False,
    drivers: frozenset[str] = DRIVERS,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register what a step of the function's name does."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        name = run.__name__
        assert name not in KINDS, name
        KINDS[name] = Kind(name, run, make, weight, block, leaves, idle, drivers)
        return run

    return register


# -- models ---------------------------------------------------------------------------------------------------------------

name_and_number = some(NAMES, (1, 2, 3, 40))
a_name = one_of(*NAMES)


@kind(name_and_number, weight=3)
def create(s: Session, name: str, number: int) -> Any:
    return s.rows.create(name=name, number=number).name


@kind(name_and_number, weight=2)
def update(s: Session, name: str, number: int) -> Any:
    return s.rows.filter(name__lte=name).update(number=number)


@kind(a_name)
def delete(s: Session, name: str) -> Any:
    return s.rows.filter(name=name).delete()[0]


@kind(weight=3)
def listed(s: Session) -> Any:
    return list(s.rows.order_by("name").values_list("name", "number"))


@kind(a_name)
def first(s: Session, name: str) -> Any:
    found = s.rows.filter(name=name).first()
    return found and (found.name, found.number)


@kind()
def counted(s: Session) -> Any:
    return s.rows.count(), s.rows.filter(number=1).exists()


@kind(name_and_number)
def got_or_created(s: Session, name: str, number: int) -> Any:
    found, made = s.rows.get_or_create(name=name, defaults={"number": number})
    if made:  # in a block of Django's, whose COMMIT is that of a transaction by hand, too
        s.by_hand = False
    return found.name, found.number, made


@kind(name_and_number)
def updated_or_created(s: Session, name: str, number: int) -> Any:
    found, made = s.rows.update_or_create(name=name, defaults={"number": number})
    return found.name, found.number, made


@kind(some(NAMES, NAMES))
def bulk_created(s: Session, one: str, other: str) -> Any:
    return len(s.rows.bulk_create([s.model(name=f"{name}{name}", number=5) for name in (one, other)]))


@kind(a_name, weight=2)
def locked(s: Session, name: str) -> Any:
    """Outside a transaction Django refuses it."""
    return list(s.rows.filter(name=name).select_for_update().values_list("number", flat=True))


@kind(one_of(1, 2, 100), weight=1.5)
def iterated(s: Session, chunk: int) -> Any:
    found = []
    for row in s.rows.order_by("name").iterator(chunk_size=chunk):
        found.append(row.name)
        if len(found) == 2:
            s.pause(0.001)
    return found


@kind(one_of(1, 2))
def iterated_and_asked(s: Session, chunk: int) -> Any:
    rows = s.rows.order_by("name").iterator(chunk_size=chunk)
    return [(row.name, s.rows.filter(pk=row.pk).count()) for row in rows]


@kind(one_of(1, 2))
def iterated_in_part(s: Session, chunk: int) -> Any:
    rows = s.rows.order_by("name").iterator(chunk_size=chunk)
    found = next(rows, None)
    rows.close()
    return found and found.name


# -- cursors --------------------------------------------------------------------------------------------------------------

FETCHES = ("one", "many", "all", "each", "none")


def fetched(cursor: Any, how: str) -> Any:
    """Rows, taken in one of the ways there are."""
    if how == "one":
        return cursor.fetchone()
    if how == "many":
        return cursor.fetchmany(2), cursor.fetchmany(), cursor.fetchall()
    if how == "each":
        return list(cursor)
    return cursor.fetchall() if how == "all" else None


@kind(one_of(*FETCHES), weight=2)
def selected(s: Session, how: str) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute(f"SELECT name, number FROM {s.table} WHERE number < %s ORDER BY name", [50])
        return fetched(cursor, how), [column[0] for column in cursor.description], cursor.rowcount


@kind(name_and_number, weight=2)
def inserted(s: Session, name: str, number: int) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {s.table} (name, number) VALUES (%s, %s)", [f"raw {name}", number])
        return cursor.rowcount


@kind(some(NAMES, NAMES))
def inserted_many(s: Session, one: str, other: str) -> Any:
    with s.connection.cursor() as cursor:
        rows = [(f"many {name}", 7) for name in (one, other)]
        cursor.executemany(f"INSERT INTO {s.table} (name, number) VALUES (%s, %s)", rows)
        return cursor.rowcount


@kind(some(NAMES, NAMES))
def inserted_from_a_generator(s: Session, one: str, other: str) -> Any:
    with s.connection.cursor() as cursor:
        rows = ((f"lazy {name}", 8) for name in (one, other))
        cursor.executemany(f"INSERT INTO {s.table} (name, number) VALUES (%s, %s)", rows)
        return cursor.rowcount


@kind(some(NAMES, NAMES), drivers=DRIVERS - {"psycopg3"})
def inserted_from_a_query(s: Session, one: str, other: str) -> Any:
    """The parameters of the statement are found by other statements while it runs. psycopg 3 itself hangs there."""
    with s.connection.cursor() as cursor:
        rows = ((f"asked {name}", s.rows.count()) for name in (one, other))
        cursor.executemany(f"INSERT INTO {s.table} (name, number) VALUES (%s, %s)", rows)
        return cursor.rowcount


@kind(one_of("SELECT nonsense", "SELEC", "SELECT * FROM nowhere", "INSERT INTO nowhere VALUES (1)"))
def failed(s: Session, sql: str) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute(sql)


@kind()
def without_its_parameters(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute("SELECT %s, %s", [1])
        return cursor.fetchall()


@kind(one_of(1, 2, 3), idle=True)
def opened(s: Session, number: int) -> Any:
    s.cursors[number] = s.connection.cursor()


@kind(one_of(1, 2, 3), weight=2)
def executed_on(s: Session, number: int) -> Any:
    if number not in s.cursors:
        s.cursors[number] = s.connection.cursor()
    try:
        s.cursors[number].execute(f"SELECT name, number FROM {s.table} ORDER BY name")
    except BaseException:
        s.cursors.pop(
            number, None
        )  # its earlier rows are gone, or not: of a refused statement the other side knows nothing
        raise


@kind(some((1, 2, 3), FETCHES), weight=2, idle=True)
def fetched_from(s: Session, number: int, how: str) -> Any:
    return fetched(s.cursors[number], how) if number in s.cursors else None


@kind(one_of(1, 2, 3), idle=True)
def closed_cursor(s: Session, number: int) -> Any:
    if number in s.cursors:
        s.cursors.pop(number).close()


@kind()
def chunked(s: Session) -> Any:
    with s.connection.chunked_cursor() as cursor:
        cursor.execute(f"SELECT name FROM {s.table} ORDER BY name")
        return cursor.fetchone(), cursor.fetchmany(2), cursor.fetchall()


@kind()
def looked_into_the_schema(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        columns = s.connection.introspection.get_table_description(cursor, s.table)
    return sorted(column.name for column in columns)


@kind(weight=0.5)
def wrapped_execution(s: Session) -> Any:
    seen = []
    s.connection.ensure_connection()  # Django's engine sends its set-up through the wrappers, too

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
        seen.append((sql[:6], many, context["connection"] is s.connection))
        return execute(sql, params, many, context)

    with s.connection.execute_wrapper(watch):
        return s.rows.count(), seen


# -- transactions ---------------------------------------------------------------------------------------------------------


def a_block(rng: random.Random) -> tuple[Any, ...]:
    """Savepoint or not, durable or not, and whether it ends with an exception."""
    return rng.random() < 0.7, rng.random() < 0.1, rng.random() < 0.25


@kind(a_block, weight=6, block=2, idle=True)
def atomic(s: Session, savepoint: bool, durable: bool, fails: bool) -> Any:  # noqa: FBT001
    from django.db import transaction

    s.not_by_hand()
    with transaction.atomic(using=s.alias, savepoint=savepoint, durable=durable):
        s.inside()
        if fails:
            raise ValueError("wanted")
        s.before_commit()
    return s.connection.in_atomic_block


@kind(idle=True)
def autocommit_off(s: Session) -> Any:
    """Once: psycopg2 refuses it in a transaction, though there is nothing to change."""
    s.not_by_hand()
    if not s.connection.get_autocommit():
        return
    s.connection.set_autocommit(False)


@kind(idle=True)
def autocommit_on(s: Session) -> Any:
    s.not_by_hand()
    s.connection.set_autocommit(True)


@kind(idle=True)
def committed(s: Session) -> Any:
    s.connection.commit()
    s.ended()


@kind(idle=True)
def rolled_back(s: Session) -> Any:
    s.connection.rollback()
    s.ended()


@kind(one_of(True, False), idle=True, weight=0.5)
def marked_for_rollback(s: Session, value: bool) -> Any:  # noqa: FBT001
    s.connection.set_rollback(value)


@kind(one_of(1, 2), idle=True)
def savepoint(s: Session, number: int) -> Any:
    s.memory["savepoint", number] = s.connection.savepoint()
    return s.memory["savepoint", number] is None


@kind(some((1, 2), ("savepoint_rollback", "savepoint_commit")), idle=True)
def ended_savepoint(s: Session, number: int, how: str) -> Any:
    sid = s.memory.pop(("savepoint", number), None)
    if sid is not None:
        getattr(s.connection, how)(sid)


@kind(one_of(False, True), idle=True, weight=1.5)
def hooked(s: Session, robust: bool) -> Any:  # noqa: FBT001
    """The hook queries; what it found comes to light with `told`."""
    from django.db import transaction

    transaction.on_commit(s.hook, using=s.alias, robust=robust)


@kind(idle=True, weight=1.5)
def told(s: Session) -> Any:
    """All that hooks, handlers and notices have said so far."""
    return list(s.log)


@kind(weight=0.7)
def begun_by_hand(s: Session) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute("BEGIN")
    s.by_hand = s.connection.get_autocommit() and not s.connection.in_atomic_block


@kind(one_of("COMMIT", "ROLLBACK"), weight=0.7)
def ended_by_hand(s: Session, verb: str) -> Any:
    with s.connection.cursor() as cursor:
        cursor.execute(verb)
    s.by_hand = False


# -- the connection -------------------------------------------------------------------------------------------------------


@kind(idle=True)
def asked_django(s: Session) -> Any:
    c = s.connection
    return c.get_autocommit(), c.in_atomic_block, c.vendor, c.alias == s.alias


@kind(idle=True)
def ensured(s: Session) -> Any:
    s.connection.ensure_connection()


@kind(idle=True)
def usable(s: Session) -> Any:
    s.connection.ensure_connection()
    return s.usable(s.connection.is_usable())


@kind(idle=True)
def closed(s: Session) -> Any:
    s.connection.close()
    s.forget()


@kind(idle=True, weight=1.5)
def next_request(s: Session) -> Any:
    """The request ends, and the same greenlet begins the next."""
    from django.core.signals import request_finished, request_started

    request_finished.send(sender=None)
    s.forget()
    request_started.send(sender=None, environ={"REQUEST_METHOD": "GET", "PATH_INFO": "/test/"})


@kind(one_of(0.001, 0.005), idle=True, weight=3)
def paused(s: Session, seconds: float) -> Any:
    s.pause(seconds)


@kind(weight=2)
def session_number(s: Session) -> Any:
    """Whether the session is the one that it was when its number was asked for last."""
    with s.connection.cursor() as cursor:
        cursor.execute(s.site.session_sql)
        number = cursor.fetchone()[0]
    known = s.memory.setdefault("session", number)
    s.memory["session"] = number
    return number == known


# -- faults ---------------------------------------------------------------------------------------------------------------


@kind(weight=2, block=1, idle=True)
def starved(s: Session) -> Any:
    """All other connections of the pool are taken while the step inside runs."""
    with s.starve():
        s.inside()


@kind(weight=1, idle=True)
def lost(s: Session) -> Any:
    """The server ends our session, and all that are idle."""
    s.lose()


@kind(weight=0.7)
def timed_out(s: Session) -> Any:
    """A time-out of gevent's strikes in a query."""
    with gevent.Timeout(s.strikes_after), s.connection.cursor() as cursor:
        cursor.execute(s.site.sleep_sql(2))


@kind(weight=0.7)
def over_its_deadline(s: Session) -> Any:
    """The request is ended in a query, as at its deadline, and goes on all the same."""
    s.connection.ensure_connection()
    timer = gevent.get_hub().loop.timer(s.strikes_after)
    timer.start(gevent.getcurrent().throw, RequestTimeout())
    try:
        with s.connection.cursor() as cursor:
            cursor.execute(s.site.sleep_sql(2))
    except RequestTimeout:
        s.was_ended = True
        raise gevent.Timeout from None  # to both sides a statement that did not run
    finally:
        timer.close()


@kind(weight=0.3)
def killed(s: Session) -> Any:
    """The greenlet is killed in a query."""
    s.connection.ensure_connection()
    killer = gevent.spawn_later(s.strikes_after, gevent.getcurrent().kill, block=False)
    try:
        with s.connection.cursor() as cursor:
            cursor.execute(s.site.sleep_sql(2))
    finally:
        killer.kill(block=False)
