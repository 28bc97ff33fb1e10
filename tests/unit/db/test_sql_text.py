"""Comments leave a text; what only looks like one stays."""

from __future__ import annotations

import pytest

from djworker.db.lease import sql_text

POSTGRES = [
    ("SELECT f/* x */(1)", "SELECT f (1)"),
    ("SELECT f/* a /* b */ c */(1)", "SELECT f (1)"),
    ("-- x\nSELECT 1 -- y", "SELECT 1  "),
    ("SELECT '--', f/**/(1)", "SELECT '--', f (1)"),
    ("SELECT 'it''s /*', f/**/(1)", "SELECT 'it''s /*', f (1)"),
    (r"SELECT E'\'--', f/**/(1)", r"SELECT E'\'--', f (1)"),
    (r"SELECT name'\'/**/, '--'", r"SELECT name'\' , '--'"),
    ('SELECT "/*", f/**/(1)', 'SELECT "/*", f (1)'),
    ("SELECT $a$ -- $b$ $a$, f/**/(1)", "SELECT $a$ -- $b$ $a$, f (1)"),
    ("SELECT a$b$c/**/, a$b$d", "SELECT a$b$c , a$b$d"),
    ("SELECT 1 /* never closed", "SELECT 1  "),
]
MYSQL = [
    ("SELECT f/* x */(1)", "SELECT f (1)"),
    ("# x\nSELECT 1", "SELECT 1"),
    ("SELECT 1--1", "SELECT 1--1"),
    ("SELECT 1 -- 1", "SELECT 1  "),
    ("/*!40000 SET @a = 1 */", "SET @a = 1  "),
    ("/*M!100100 SET @a = 1 */", "SET @a = 1  "),
    (r"SELECT 'a\'-- ', f/**/(1)", r"SELECT 'a\'-- ', f (1)"),
    ("SELECT `#`, f/**/(1)", "SELECT `#`, f (1)"),
    ('SELECT "/*", f/**/(1)', 'SELECT "/*", f (1)'),
]


@pytest.mark.parametrize("sql, bare", POSTGRES)
def test_comments_leave_a_text_of_postgresql(sql: str, bare: str) -> None:
    assert sql_text.postgres(sql).strip() == bare.strip()


@pytest.mark.parametrize("sql, bare", MYSQL)
def test_comments_leave_a_text_of_mysql(sql: str, bare: str) -> None:
    assert sql_text.mysql(sql).strip() == bare.strip()
