"""Which settings a statement makes, read from its text and parameters."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from djworker.db.lease.session_settings import SET_CONFIG, read_settings

CONFIG = "SELECT set_config('app.tenant', 'red', %s)"
LITERAL = "SELECT set_config('app.tenant', 'red', {})"
RED = [("app.tenant", SET_CONFIG, ("app.tenant", "red"))]


@pytest.mark.parametrize("local", [True, "t", "tr", "true", "TRUE", " true ", "y", "yes", "on", "1"])
def test_a_local_setting_is_none_of_the_session(local: object) -> None:
    assert read_settings(CONFIG, [local]) == []
    if isinstance(local, str):
        assert read_settings(LITERAL.format(f"'{local}'"), None) == []


@pytest.mark.parametrize("local", [False, "f", "false", "n", "no", "of", "off", "0", "Off"])
def test_a_setting_of_the_session_is_replayed(local: object) -> None:
    assert read_settings(CONFIG, [local]) == RED
    if isinstance(local, str):
        assert read_settings(LITERAL.format(f"'{local}'"), None) == RED


@pytest.mark.parametrize("local", [None, "", "o", "maybe", 1, 0, b"t", object()])
def test_what_cannot_be_read_for_sure_is_left_to_a_pin(local: object) -> None:
    assert read_settings(CONFIG, [local]) is None


def test_the_form_is_judged_before_its_parameters_are_known() -> None:
    assert read_settings(CONFIG, None) is not None


class Changing:
    """A value that says something else whenever it is asked."""


@pytest.mark.parametrize(
    "sql, params",
    [("SELECT set_config('app.tenant', %s, false)", [Changing()]), ("SET app.tenant = %s", (Changing(),))],
)
def test_a_value_that_may_change_is_not_replayed(sql: str, params: Sequence[object]) -> None:
    assert read_settings(sql, params) is None
