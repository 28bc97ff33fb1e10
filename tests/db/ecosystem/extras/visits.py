"""What requests do with the packages. Each has a number, and rows of its own by that number."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import django_read_only
import pgactivity
import pghistory
import pglock
import pgtrigger
from django.apps import apps
from django.db import Error, connection, transaction
from django.test.utils import CaptureQueriesContext
from pgactivity.models import PGActivity

from tests.db.ecosystem.extras.models import Counter, Order, Shelf, Treasure
from tests.db.ecosystem.side import Running, alone, fetch, installed

# -- triggers -------------------------------------------------------------------------------------------------------------


def refused(work: Any) -> str:
    """The class of the error, as a project sees it."""
    try:
        with transaction.atomic():
            work()
    except Error as error:
        return type(error).__name__
    return "allowed"


def protected(number: int) -> Any:
    treasure = Treasure.objects.create(number=number)
    before = refused(treasure.delete)
    time.sleep(0.002)
    with pgtrigger.ignore("extras.Treasure:protect"):
        time.sleep(0.002)
        Treasure.objects.filter(number=number).delete()
    after = refused(Treasure.objects.create(number=number).delete)
    return before, after, Treasure.objects.filter(number=number).count()


def ignored_in_a_transaction(number: int) -> Any:
    with transaction.atomic():
        Treasure.objects.create(number=100 + number)
        with pgtrigger.ignore("extras.Treasure:protect"):
            Treasure.objects.filter(number=100 + number).delete()
        other = Treasure.objects.create(number=100 + number)
        found = refused(other.delete)
    return found, Treasure.objects.filter(number=100 + number).count()


def schema_for_a_while(number: int) -> Any:
    def path() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('search_path')")
            found: str = cursor.fetchone()[0]
            return found

    with transaction.atomic(), pgtrigger.schema("pg_catalog", "public"):
        Treasure.objects.create(number=200 + number)
    return path()


# -- history --------------------------------------------------------------------------------------------------------------


def events(number: int) -> Any:
    event: Any = apps.get_model("extras", "OrderEvent")
    rows = event.objects.filter(number=number).order_by("pgh_id")
    return [(row.pgh_label, row.state, row.pgh_context and row.pgh_context.metadata) for row in rows]


def tracked(number: int) -> Any:
    with pghistory.context(visitor=number):
        order = Order.objects.create(number=number)
        time.sleep(0.002)
        with transaction.atomic():
            order.state = "paid"
            order.save()
    order.state = "sent"
    order.save()
    return events(number)


def tracked_with_an_error(number: int) -> Any:
    with pghistory.context(visitor=number):
        try:
            with transaction.atomic():
                Order.objects.create(number=50 + number)
                with connection.cursor() as cursor:
                    cursor.execute("SELECT nonsense")
        except Error:
            pass
        Order.objects.create(number=50 + number)
        Order.objects.bulk_create([Order(number=50 + number, state="bulk")])
    return events(50 + number)


def tracked_by_the_middleware(number: int) -> Any:
    answer = fetch(f"/order/{1000 + number}/")
    return answer, events(1000 + number)


# -- locks ----------------------------------------------------------------------------------------------------------------


def counted_under_a_lock(number: int) -> Any:
    with pglock.advisory("counter"):
        counter, _ = Counter.objects.get_or_create(pk=1)
        time.sleep(0.003)
        counter.value += 1
        counter.save()
    return True


@alone
def counted_all(number: int) -> Any:
    return Counter.objects.get(pk=1).value


@alone
def tried_lock(number: int) -> Any:
    def other() -> Any:
        with pglock.advisory("mine", timeout=0) as got:
            return got

    with pglock.advisory("mine", timeout=0) as first:
        time.sleep(0.002)
        inside = Running(other).get()
    return first, inside, Running(other).get()


@alone
def waited_for_a_row(number: int) -> Any:
    def other() -> Any:
        with pglock.timeout(milliseconds=30):
            Counter.objects.filter(pk=1).update(value=99)

    with transaction.atomic():
        Counter.objects.select_for_update().get(pk=1)
        found = Running(other).get()
    return found, Counter.objects.get(pk=1).value


def locked_table(number: int) -> Any:
    with transaction.atomic():
        return pglock.model("extras.Order", mode=pglock.ROW_SHARE, timeout=5)


# -- activity -------------------------------------------------------------------------------------------------------------


def slept(seconds: float) -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


def timed_out(number: int) -> Any:
    with pgactivity.timeout(milliseconds=40):
        found = refused(lambda: slept(2))
    slept(0.06)
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        return found, cursor.fetchone()


def in_context(number: int) -> Any:
    with pgactivity.context(visitor=number):
        return [row.context for row in PGActivity.objects.filter(context__visitor=number)]


@alone
def cancelled(number: int) -> Any:
    """An operator ends the query of a request that has told its number: that one, and no other."""
    told: list[int] = []

    def victim() -> Any:
        told.append(pgactivity.pid())
        time.sleep(0.01)
        return refused(lambda: slept(5))

    def operator() -> Any:
        while not told:
            time.sleep(0.002)
        while not PGActivity.objects.filter(id=told[0], state="ACTIVE", query__contains="pg_sleep").exists():
            time.sleep(0.005)
        return bool(pgactivity.cancel(*told))

    running = Running(victim)
    return Running(operator).get(), running.get()


# -- read only ------------------------------------------------------------------------------------------------------------


@alone
def read_only(number: int) -> Any:
    def write() -> Any:
        return Order.objects.create(number=9000).state

    django_read_only.disable_writes()
    try:
        refusals = [Running(write).get() for _ in range(6)]
        reads = Running(Order.objects.filter(number=9000).count).get()
    finally:
        django_read_only.enable_writes()
    return refusals, reads, Running(write).get()


# -- cache ----------------------------------------------------------------------------------------------------------------


def cost(work: Any) -> int:
    """Queries that it took."""
    with CaptureQueriesContext(connection) as captured:
        work()
    return len(captured)


class Wanted(Exception):
    """Ends a block."""


def end_block() -> None:
    """So that it is rolled back."""
    raise Wanted


def shelves() -> Any:
    return list(Shelf.objects.order_by("name").values_list("name", flat=True))


@alone
def cached(number: int) -> Any:
    Shelf.objects.create(name="first")
    costs = [cost(shelves), cost(shelves)]
    Shelf.objects.create(name="second")
    costs += [cost(shelves), cost(shelves)]
    try:
        with transaction.atomic():
            Shelf.objects.create(name="never")
            costs += [len(shelves()), cost(shelves)]
            end_block()
    except Wanted:
        pass
    return costs, shelves(), Running(shelves).get()


# -- tasks ----------------------------------------------------------------------------------------------------------------


def deferred(number: int) -> Any:
    from procrastinate.contrib.django.models import ProcrastinateJob

    from tests.db.ecosystem.extras.tasks import put_on_shelf

    with transaction.atomic():
        put_on_shelf.defer(name=f"task {number}")
        time.sleep(0.002)
    try:
        with transaction.atomic():
            put_on_shelf.defer(name=f"never {number}")
            end_block()
    except Wanted:
        pass
    return list(ProcrastinateJob.objects.filter(args__name__endswith=f" {number}").values_list("args", "status"))


@alone
def done(number: int) -> Any:
    """By procrastinate's own worker, in a process of its own."""
    from procrastinate.contrib.django.models import ProcrastinateJob

    command = [sys.executable, "-m", "tests.db.ecosystem.work"]
    subprocess.run(command, check=True, timeout=60)
    left = ProcrastinateJob.objects.exclude(status="succeeded").count()
    return left, list(Shelf.objects.filter(name__contains="task").order_by("name").values_list("name", flat=True))


VISITS = {
    "django-pgtrigger": (protected, ignored_in_a_transaction, schema_for_a_while),
    "django-pghistory": (tracked, tracked_with_an_error, tracked_by_the_middleware),
    "django-pglock": (counted_under_a_lock, counted_all, tried_lock, waited_for_a_row, locked_table),
    "django-pgactivity": (timed_out, in_context, cancelled),
    "django-read-only": (read_only,),
    "django-cachalot": (cached,),
    **({"procrastinate": (deferred, done)} if installed("psycopg") else {}),
}
