"""The table itself: complete rows, and configurations that cross a process boundary unchanged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.conf import variables
from djworker.conf.kinds import (
    ADDRESSES,
    ADDRESSES_OR_NONE,
    ANNOUNCED,
    CONTROL,
    FILE,
    FLAG,
    NAME,
    PATHS,
    PEERS,
    PROBE,
    SECONDS,
    SIZE,
    TEXT,
    UMASK,
    WHOLE,
    WORKERS,
)
from djworker.conf.option import Option
from djworker.conf.peers import canonical
from djworker.conf.span import Span
from djworker.conf.table import OPTIONS, Config, adopt, changes
from djworker.ipc.launch import Launch

EVERY = pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)

NEED_RESTART = {"bind", "backlog", "socket_mode", "pid", "umask", "user", "group", "reload", "control", "status_bind"}


def values_of(option: Option) -> st.SearchStrategy[Any]:
    low, high = option.spec.minimum or 0, option.spec.maximum or 10**9
    words = st.text("abcdefgh", min_size=1, max_size=8)
    by_kind: dict[object, st.SearchStrategy[Any]] = {
        WHOLE: st.integers(int(low), int(high)),
        WORKERS: st.integers(int(low), int(high)) | st.builds(Span, st.integers(1, 8), st.integers(9, 1000)),
        SIZE: st.integers(int(low), int(high)),
        UMASK: st.integers(0, 0o777),
        SECONDS: st.floats(low, high).map(lambda seconds: round(seconds, 6)),
        FLAG: st.booleans(),
        ANNOUNCED: st.booleans(),
        TEXT: words,
        NAME: words | st.none(),
        FILE: words | st.none(),
        PATHS: st.lists(words.map("/{}".format)).map(tuple),
        PEERS: st.lists(st.ip_addresses().map(str).map(canonical), unique=True).map(tuple),
        PROBE: st.lists(words.map("/{}".format)).map(tuple),
        CONTROL: st.sampled_from(["auto", "off"]) | words.map("/{}".format) | words.map("@{}".format),
        ADDRESSES: st.lists(words.map("{}:80".format), min_size=1, unique=True).map(tuple),
        ADDRESSES_OR_NONE: st.lists(words.map("{}:80".format), unique=True).map(tuple),
    }
    choices = st.sampled_from(option.spec.kind.metavar.strip("{}").split(","))
    return by_kind.get(option.spec.kind, choices)


configs = st.builds(Config, **{name: values_of(option) for name, option in OPTIONS.items()})


@EVERY
def test_a_default_lies_within_its_own_bounds(option: Option) -> None:
    assert option.read(option.show(option.make_default()) if option.make_default() else option.make_default()) == (
        option.make_default()
    )


@EVERY
def test_a_row_is_documented(option: Option) -> None:
    assert option.spec.help.endswith(".")
    assert option.spec.group


def test_no_two_options_share_a_name_anywhere() -> None:
    for names in (
        [flag for option in OPTIONS.values() for flag in option.flags],
        [name for option in OPTIONS.values() for name in (option.variable, *option.spec.environment)],
    ):
        assert len(names) == len(set(names))


def test_what_needs_a_restart() -> None:
    assert {name for name, option in OPTIONS.items() if not option.spec.reloadable} == NEED_RESTART


@given(configs)
def test_a_configuration_survives_json(config: Config) -> None:
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


@given(configs)
def test_every_value_is_read_as_it_is_shown(config: Config) -> None:
    for name, option in OPTIONS.items():
        value = getattr(config, name)
        if value not in {None, ()}:
            assert option.read(option.show(value)) == (pytest.approx(value) if isinstance(value, float) else value)


def test_a_newer_sender_may_know_more_options() -> None:
    assert Config.from_json({**Config(workers=3).to_json(), "invented_later": 1}) == Config(workers=3)


@given(configs, configs)
def test_a_reload_adopts_what_it_may_and_names_the_rest(old: Config, new: Config) -> None:
    adopted, needs_restart = changes(old, new)
    assert set(needs_restart) <= NEED_RESTART
    assert not set(adopted) & NEED_RESTART
    effective = adopt(old, new)
    for name in OPTIONS:
        assert getattr(effective, name) == getattr(old if name in NEED_RESTART else new, name)
    assert changes(new, new) == ((), ())


@given(configs)
def test_a_launch_survives_the_environment(config: Config) -> None:
    launch = Launch(
        "shop.settings", ("/srv/shop",), "/srv", {"bind": ["8000"]}, ("fd://3",), config, "shop", ("-X", "dev")
    )
    assert Launch.from_environ({variables.LAUNCH: launch.to_json()}) == launch


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"config": 3}'])
def test_a_launch_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own error is one
        Launch.from_json(text)


def test_an_arbiter_that_nobody_launched_says_how_to_start() -> None:
    with pytest.raises(LookupError, match="runworkers"):
        Launch.from_environ({})


def test_the_import_path_of_manage_py_comes_first_and_nothing_is_lost() -> None:
    launch = Launch("s", ("/srv/shop", "/lib", "/site"), "/", {}, (), Config(), "shop")
    assert launch.import_path(["/lib", "/new-lib", "/site"]) == ["/srv/shop", "/lib", "/site", "/new-lib"]
