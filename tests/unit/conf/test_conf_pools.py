"""The options of pools are options like all others: read alike, from each layer, with the source of each value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.conf import pool_resolve
from djworker.conf.option import Option
from djworker.conf.pool_resolve import resolve_pool, resolve_pools
from djworker.conf.pool_table import POOL_OPTIONS, PoolOptions
from djworker.conf.problems import ConfigError, Problem
from djworker.conf.resolve import ResolvedPool
from djworker.conf.table import OPTIONS

POSTGRES = {"ENGINE": "django.db.backends.postgresql"}
EVERY = pytest.mark.parametrize("option", POOL_OPTIONS.values(), ids=POOL_OPTIONS)

Layer = Mapping[str, Any]


def one(
    settings: Layer | None = None,
    pool_option: object = None,
    cli: Layer | None = None,
    environ: Mapping[str, str] | None = None,
    alias: str = "default",
) -> ResolvedPool:
    return resolve_pool(alias, settings or {}, pool_option, cli or {}, environ or {})


def problems(*layers: Any, **more: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        one(*layers, **more)
    return list(caught.value.problems)


# -- the table


@EVERY
def test_a_pool_option_is_documented_and_its_default_is_allowed(option: Option) -> None:
    assert option.spec.help.endswith(".")
    assert option.read(option.make_default()) == option.make_default()


def test_no_pool_option_shares_a_name_with_another_option() -> None:
    every = [*OPTIONS.values(), *POOL_OPTIONS.values()]
    for names in (
        [option.dest for option in every],
        [flag for option in every for flag in option.flags],
        [name for option in every for name in (option.variable, *option.spec.environment)],
    ):
        assert len(names) == len(set(names))


def test_flags_and_variables_of_pools_begin_alike() -> None:
    option = POOL_OPTIONS["max_size"]
    assert (option.flag, option.variable) == ("--pool-max-size", "DJWORKER_POOL_MAX_SIZE")
    assert (option.dest, option.title) == ("pool_max_size", "POOL.max_size")


# -- reading


@pytest.mark.parametrize(
    "name, raw, value",
    [
        ("timeout", "5s", 5.0),
        ("timeout", "500ms", 0.5),
        ("max_lifetime", "1h", 3600.0),
        ("strict", "yes", True),
        ("strict", "off", False),
        ("max_size", "7", 7),
        ("lease", "Request", "request"),
        ("pin_sql", "my_function\nits_friend(a{1,2})", ("my_function", "its_friend(a{1,2})")),
        ("pin_sql", "my_function", ("my_function",)),
    ],
)
def test_a_text_is_read_alike_from_every_layer(name: str, raw: str, value: object) -> None:
    option = POOL_OPTIONS[name]
    for found in (
        one({"POOL": {name: raw}}),
        one({"POOLS": {"default": {name.upper(): raw}}}),
        one({}, {name: raw}),
        one(environ={option.variable: raw}),
        one(cli={option.dest: [raw] if option.spec.kind.repeatable and "\n" not in raw else raw}),
    ):
        assert getattr(found.options, name) == value


def test_patterns_of_a_list_stay_whole() -> None:
    verbose = "(?x) set_tenant # this\n | set_region"
    assert one({"POOL": {"pin_sql": [verbose, "a,b"]}}).options.pin_sql == (verbose, "a,b")
    assert one(cli={"pool_pin_sql": ["a,b", "c"]}).options.pin_sql == ("a,b", "c")


@pytest.mark.parametrize(
    "name, raw, hint",
    [
        ("max_size", "many", "give digits only"),
        ("max_size", 10.0, "give digits only"),
        ("max_size", True, "give digits only"),
        ("max_size", 0, "give at least 1"),
        ("min_size", -1, "give at least 0"),
        ("timeout", float("nan"), "give seconds (90, 1.5) or 500ms, 90s, 5m, 1h"),
        ("timeout", float("inf"), "give seconds (90, 1.5) or 500ms, 90s, 5m, 1h"),
        ("timeout", 10**400, "give seconds (90, 1.5) or 500ms, 90s, 5m, 1h"),
        ("timeout", "-5s", "give at least 0"),
        ("strict", 1, "give true, false, yes, no, on, off, 1 or 0"),
        ("lease", "forever", "give transaction or request"),
        ("pin_sql", ["("], "see the documentation of Python's re"),
        ("pin_sql", [b"bytes"], "give ['my_function']"),
        ("pin_sql", 3, "give ['my_function']"),
    ],
)
def test_a_value_that_cannot_be_names_setting_source_and_remedy(name: str, raw: object, hint: str) -> None:
    (problem,) = problems({"POOLS": {"default": {name.upper(): raw}}})
    assert (problem.id, problem.setting) == ("E022", f"POOL.{name}")
    assert problem.source == f"settings.DJWORKER['POOLS']['default'][{name.upper()!r}]"
    assert problem.hint.startswith(hint)


# -- layers

LAYERS: list[tuple[dict[str, Any], str]] = [
    ({"settings": {"POOL": {"max_size": 2}}}, "settings.DJWORKER['POOL']['max_size']"),
    ({"environ": {"DJWORKER_POOL_MAX_SIZE": "3"}}, "environment DJWORKER_POOL_MAX_SIZE"),
    ({"cli": {"pool_max_size": "4"}}, "command line --pool-max-size"),
    ({"pool_option": {"max_size": 5}}, "settings.DATABASES['default']['OPTIONS']['pool']['max_size']"),
    (
        {"settings": {"POOL": {"max_size": 2}, "POOLS": {"default": {"MAX_SIZE": 6}}}},
        "settings.DJWORKER['POOLS']['default']['MAX_SIZE']",
    ),
]


@pytest.mark.parametrize("strongest", range(len(LAYERS)))
def test_the_later_layer_wins_and_is_named_as_the_source(strongest: int) -> None:
    given: dict[str, Any] = {}
    for layer, _ in LAYERS[: strongest + 1]:
        given |= layer
    found = one(**given)
    assert found.options.max_size == strongest + 2
    assert found.sources["max_size"] == LAYERS[strongest][1]
    assert found.sources["timeout"] == "default"


def test_nothing_given_leaves_the_defaults() -> None:
    found = one({"POOL": {"max_size": None}}, True, {"pool_max_size": None}, {"DJWORKER_POOL_MAX_SIZE": ""})
    assert found.options == PoolOptions()
    assert set(found.sources.values()) == {"default"}


def test_sizes_that_contradict_each_other_name_both_sources() -> None:
    (problem,) = problems({"POOLS": {"default": {"max_size": 2}}}, cli={"pool_min_size": "8"})
    assert str(problem) == (
        "djworker.E023: the pool of 'default' has min_size=8 (from command line --pool-min-size) above max_size=2"
        " (from settings.DJWORKER['POOLS']['default']['max_size']): raise max_size or lower min_size"
    )
    (problem,) = problems(environ={"DJWORKER_POOL_MIN_SIZE": "11"})
    assert "above max_size=10 (default)" in problem.message


def test_a_mistake_that_a_later_layer_hides_is_told_of() -> None:
    (problem,) = problems({"POOL": {"timeout": "soon"}, "POOLS": {"default": {"timeout": 5}}})
    assert problem.source == "settings.DJWORKER['POOL']['timeout']"
    (problem,) = problems({}, {"min_size": 3, "max_size": "x"})
    assert problem.setting == "POOL.max_size", "nothing is said of sizes that could not be read"


def test_everything_wrong_is_told_once_for_all_aliases() -> None:
    settings = {"POOL": {"max_sise": 3, "timeout": "soon"}, "POOLS": {"reprots": {}}}
    databases = {"default": POSTGRES, "reports": POSTGRES}
    _, found = resolve_pools(settings, databases, {"pool_lease": "x"}, {"DJWORKER_POOL_MAX_IDLE": "y"})
    lines = [str(problem) for problem in found]
    assert [problem.id for problem in found] == ["E021", "E022", "E022", "E022", "E024"]
    assert "did you mean max_size?" in lines[0]
    assert "(from environment DJWORKER_POOL_MAX_IDLE)" in " ".join(lines)
    assert "(from command line --pool-lease)" in " ".join(lines)
    assert "did you mean reports?" in lines[-1]


@pytest.mark.parametrize("pool", [7, "x", ["max_size"]])
def test_pools_that_are_no_dicts_are_refused(pool: object) -> None:
    for settings in ({"POOL": pool}, {"POOLS": {"default": pool}}, {"POOLS": pool}):
        (problem,) = problems(settings)
        assert (problem.id, problem.hint) == ("E020", "write {'max_size': 10}")
    (problem,) = problems({}, pool)
    assert problem.id == "E020"


# -- all aliases


def test_pools_are_shown_for_the_aliases_that_have_one() -> None:
    databases = {
        "default": POSTGRES,
        "maps": {"ENGINE": "djworker.db.backends.postgis"},
        "tenants": {"ENGINE": "django_tenants.postgresql_backend", "OPTIONS": {"pool": {"max_size": 3}}},
        "other": {"ENGINE": "mssql", "OPTIONS": {"pool": {"their_own": 3}}},
        "file": {"ENGINE": "django.db.backends.sqlite3"},
        "oracle": {"ENGINE": "django.db.backends.oracle", "OPTIONS": {"pool": {"min": 1}}},
        "gevents": {"ENGINE": "django_db_geventpool.backends.postgresql_psycopg3"},
        "empty": {},
    }
    pools, found = resolve_pools({}, databases, {}, {})
    assert not found
    assert list(pools) == ["default", "maps", "tenants", "other"]
    assert pools["tenants"].options.max_size == 3


@pytest.mark.parametrize(
    "databases, settings, warns",
    [
        ({"default": POSTGRES}, {}, False),
        ({"default": POSTGRES}, {"POOLS": {"default": {"max_size": 9}}}, True),
        ({"default": POSTGRES, "b": POSTGRES}, {"POOLS": {"default": {"max_size": 9}}}, False),
        ({"default": {"ENGINE": "django.db.backends.sqlite3"}}, {}, True),
        ({"default": {"ENGINE": "django_db_geventpool.backends.postgis"}}, {}, False),
    ],
)
def test_a_flag_that_no_pool_follows_is_told_of(databases: Any, settings: Any, *, warns: bool) -> None:
    for layer in (
        {"cli": {"pool_max_size": "5"}, "environ": {}},
        {"cli": {}, "environ": {"DJWORKER_POOL_MAX_SIZE": "5"}},
    ):
        _, found = resolve_pools(settings, databases, **layer)
        assert [(problem.id, problem.level) for problem in found] == ([("W005", "warning")] if warns else [])


def test_what_a_server_was_started_with_reaches_each_pool_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pool_resolve._started.cli, pool_resolve._started.environ
    monkeypatch.setenv("DJWORKER_POOL_MAX_SIZE", "6")
    assert pool_resolve.for_alias("default", {}, None).max_size == 6, "a shell has the environment alone"
    try:
        pool_resolve.expect({"pool_max_size": "4"}, {"DJWORKER_POOL_TIMEOUT": "1m"})
        found = pool_resolve.for_alias("default", {}, None)
    finally:
        pool_resolve._started.cli, pool_resolve._started.environ = before
    assert (found.max_size, found.timeout) == (4, 60.0)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.binary()


@given(st.dictionaries(st.sampled_from([*POOL_OPTIONS, "name"]), VALUES), VALUES)
def test_no_settings_break_the_pools_resolver(pool: Mapping[str, object], other: object) -> None:
    for settings in ({"POOL": pool}, {"POOL": other, "POOLS": {"default": pool}}, {"POOLS": other}):
        _, found = resolve_pools(settings, {"default": {**POSTGRES, "OPTIONS": {"pool": pool}}}, {}, {})
        assert all("\n" not in str(problem) for problem in found)
