"""Steps on a second alias that leads to the same database: neither its transactions nor its settings are the first one's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.db.contract.fuzz.kinds import MYSQL, POSTGRES, kind, one_of

if TYPE_CHECKING:
    from tests.db.contract.fuzz.sides import Session


def ask(s: Session, sql: str, params: Any = None) -> Any:
    """Execute there, and the rows if there are any."""
    from django.db import connections

    with connections[s.second].cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else None


def rows(s: Session) -> Any:
    """What is seen from there: without what a transaction of the first alias has not committed."""
    return list(s.model.objects.using(s.second).order_by("name").values_list("name", "number"))


@kind(idle=True, weight=2)
def read_there(s: Session) -> Any:
    return rows(s)


@kind(block=2, idle=True, weight=1.5)
def in_a_block_there(s: Session) -> Any:
    """The steps inside are the first alias's."""
    from django.db import transaction

    with transaction.atomic(using=s.second):
        before = rows(s)
        s.inside()
        return before, rows(s)


@kind(
    one_of("SET work_mem = '13MB'", "SET search_path = red, public", "SET app.tenant = 'there'", "RESET ALL"),
    idle=True,
    drivers=POSTGRES,
)
def set_there(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(one_of("work_mem", "search_path", "app.tenant"), idle=True, weight=1.5, drivers=POSTGRES)
def shown_there(s: Session, name: str) -> Any:
    return ask(s, "SELECT nullif(current_setting(%s, true), '')", [name])


@kind(one_of("SET @mine = 13", "SET sql_safe_updates = 1", "SET time_zone = '+05:00'"), idle=True, drivers=MYSQL)
def set_variable_there(s: Session, sql: str) -> Any:
    return ask(s, sql)


@kind(one_of("@mine", "@@sql_safe_updates", "@@time_zone"), idle=True, weight=1.5, drivers=MYSQL)
def variable_there(s: Session, name: str) -> Any:
    return ask(s, f"SELECT {name}")


@kind(idle=True)
def closed_there(s: Session) -> Any:
    from django.db import connections

    if not connections[s.second].in_atomic_block:
        connections[s.second].close()
