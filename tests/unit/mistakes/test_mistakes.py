"""What people read when they have made a mistake: ``texts.txt`` has every text, and was read by a person.

After a change of a text, ``python -m tests.unit.mistakes`` writes the file anew; read what it has changed. Each text names the
setting, the value and the remedy, and there is no traceback where a sentence will do.
"""

from __future__ import annotations

import pytest

from tests.unit.mistakes.cases import CASES, check
from tests.unit.mistakes.making import TEXTS, made, told

#: Seconds: the first test waits until all mistakes have been made.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """What is said of each mistake now."""
    return made(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.words)
def test_the_text_is_the_one_that_was_read(texts: dict[str, str], case: object) -> None:
    assert texts[str(case)] == told(TEXTS.read_text())[str(case)]


def test_every_text_is_of_a_mistake() -> None:
    assert list(told(TEXTS.read_text())) == list(map(str, CASES))


def test_a_check_of_a_project_that_hangs_ends_and_says_where() -> None:
    """At the place of a busy machine's choice, where it has come so far only."""
    (text,) = made([check("shop/urls.py", "while True: pass", "--boot-timeout", "1")]).values()
    assert "not loaded within boot_timeout: it hangs at " in text
    assert text.endswith("exit code 3")


LOCKED = """
import sqlite3
first, second = (sqlite3.connect("locked", timeout=3600) for _ in "12")
first.execute("BEGIN EXCLUSIVE")
second.execute("BEGIN EXCLUSIVE")
"""


def test_a_check_of_a_project_that_hangs_in_c_code_ends_with_its_stack() -> None:
    """SQLite waits for a lock, and lets no signal handler of Python's run."""
    (text,) = made([check("shop/urls.py", LOCKED, "--boot-timeout", "1")]).values()
    assert "Timeout (" in text
    assert text.endswith("exit code 1")
