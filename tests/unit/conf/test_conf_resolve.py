"""Layers and their precedence, and problems: all of them at once, each with its origin and its remedy."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import djworker
from djworker.conf import variables
from djworker.conf.address import Address
from djworker.conf.option import VARIABLE_PREFIX
from djworker.conf.problems import ConfigError, Problem
from djworker.conf.resolve import Resolved, passed_sockets, resolve
from djworker.conf.table import OPTIONS, Config


def resolved(
    cli: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    settings: object = None,
    **more: Any,
) -> Resolved:
    return resolve(cli or {}, environ or {}, {} if settings is None else settings, "shop", **more)


def problems(*layers: Any, **more: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        resolved(*layers, **more)
    return list(caught.value.problems)


def test_without_anything_there_are_the_defaults() -> None:
    found = resolved()
    assert found.config == Config(proc_name="shop")
    assert set(found.sources.values()) == {"default"}
    assert found.sources.keys() == OPTIONS.keys()
    assert found.warnings == ()


@pytest.mark.parametrize(
    "cli, environ, settings, workers, source",
    [
        ({"workers": "1"}, {"DJWORKER_WORKERS": "2"}, {"WORKERS": 4}, 1, "command line --workers"),
        ({}, {"DJWORKER_WORKERS": "2", "WEB_CONCURRENCY": "3"}, {"WORKERS": 4}, 2, "environment DJWORKER_WORKERS"),
        ({}, {"WEB_CONCURRENCY": "3"}, {"WORKERS": 4}, 3, "environment WEB_CONCURRENCY"),
        ({}, {"WEB_CONCURRENCY": ""}, {"WORKERS": 4}, 4, "settings.DJWORKER['WORKERS']"),
        ({"workers": None}, {}, {"WORKERS": "5"}, 5, "settings.DJWORKER['WORKERS']"),
    ],
)
def test_the_later_layer_has_precedence(
    cli: Mapping[str, Any], environ: Mapping[str, str], settings: Mapping[str, Any], workers: int, source: str
) -> None:
    found = resolved(cli, environ, settings)
    assert found.config.workers == workers
    assert found.sources["workers"] == source


def test_none_in_the_settings_means_not_set() -> None:
    assert resolved(settings={"TIMEOUT": None}).sources["timeout"] == "default"


@pytest.mark.parametrize(
    "cli, environ, inherited, bind",
    [
        ({}, {"PORT": "9000"}, (), ("0.0.0.0:9000",)),
        ({}, {"PORT": "9000", "DJWORKER_BIND": "8000"}, (), ("127.0.0.1:8000",)),
        ({}, {"PORT": "9000", "DJWORKER_BIND": "8000"}, ("fd://3", "fd://4"), ("fd://3", "fd://4")),
        ({"bind": ["fd://3", "8000"]}, {"PORT": "9000"}, ("fd://3",), ("fd://3", "127.0.0.1:8000")),
    ],
)
def test_where_to_listen(
    cli: Mapping[str, Any], environ: Mapping[str, str], inherited: tuple[str, ...], bind: tuple[str, ...]
) -> None:
    found = resolved(cli, environ, {"BIND": ["unix:/run/x"]}, inherited=inherited)
    assert found.config.bind == bind
    assert found.warnings == ()


def test_sockets_of_systemd_that_nobody_would_serve_are_spoken_of() -> None:
    (warning,) = resolved({"bind": ["8000"]}, inherited=("fd://3",)).warnings
    assert warning.id == "W004"
    assert "fd://3" in warning.message


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, ("fd://3", "fd://4")),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "2"}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "-1"}, ()),
        ({"LISTEN_FDS": "2"}, ()),
    ],
)
def test_passed_sockets_are_for_this_process_alone(environ: Mapping[str, str], expected: tuple[str, ...]) -> None:
    assert passed_sockets(environ, pid=7) == expected


def test_all_problems_are_told_at_once_with_origin_and_remedy() -> None:
    found = problems(
        {"workers": "many", "wokers": "3", "bind": ["::1:8000"]},
        {"DJWORKER_TIMEOUT": "-1", "PORT": "9000"},
        {"LOG_LEVEL": "loud", "bind": "8000", "BACKLOGS": 4, "ACCESS_LOG_FORMAT": "%(x)s"},
    )
    lines = [str(problem) for problem in found]
    assert sorted(lines) == sorted(
        [
            "djworker.E001: unknown option --wokers: did you mean --workers?",
            "djworker.E001: settings.DJWORKER has an unknown key 'bind': did you mean BIND?",
            "djworker.E001: settings.DJWORKER has an unknown key 'BACKLOGS': did you mean BACKLOG?",
            (
                "djworker.E002: workers = 'many' (from command line --workers): not a whole number: "
                "give 4, or 2..8 to follow the load; without it there is one for each processor"
            ),
            (
                "djworker.E002: bind = '::1:8000' (from command line --bind): '::1:8000': an IPv6 address needs brackets: "
                "give [::1]:8000"
            ),
            "djworker.E003: timeout = '-1' (from environment DJWORKER_TIMEOUT): out of bounds: give 0 to 86400",
            (
                "djworker.E002: log_level = 'loud' (from settings.DJWORKER['LOG_LEVEL']): not known here: give debug, info, "
                "warning, error or critical"
            ),
            next(line for line in lines if line.startswith("djworker.E004: access_log_format = '%(x)s'")),
        ]
    )


@pytest.mark.parametrize("settings", [[], "workers", 3])
def test_settings_must_be_a_dict(settings: object) -> None:
    (problem,) = problems({}, {}, settings)
    assert problem.id == "E010"


def test_keys_of_the_settings_may_be_anything() -> None:
    (problem,) = problems({}, {}, {3: 4})
    assert problem.id == "E001"


@pytest.mark.parametrize(
    "name, hint",
    [
        ("DJWORKER_WORKER", "did you mean DJWORKER_WORKERS?"),
        ("DJWORKER_MAXREQUESTS", "did you mean DJWORKER_MAX_REQUESTS?"),
        ("DJWORKER_POOL_MAXSIZE", "did you mean DJWORKER_POOL_MAX_SIZE?"),
        ("DJWORKER_MAX_SIZE", "did you mean DJWORKER_POOL_MAX_SIZE?"),
        ("DJWORKER_IMAGE_TAG", "no option has that name; --help lists them all"),
        ("DJWORKER_PORT", "DJWORKER_BIND names HOST:PORT, and PORT a port on every interface"),
        ("DJWORKER_POOL", "each option of the pool has its own, such as DJWORKER_POOL_MAX_SIZE"),
        ("DJWORKER_", "no option has that name; --help lists them all"),
    ],
)
def test_an_unknown_variable_is_a_warning_with_the_likely_name(name: str, hint: str) -> None:
    (warning,) = resolved({}, {name: "8000"}).warnings
    assert str(warning) == f"djworker.W003: the environment has an unknown variable {name}: {hint}"


def test_variables_that_others_write_are_not_spoken_of() -> None:
    environ = {
        "DJWORKER_PORT": "tcp://10.0.0.1:80",
        "DJWORKER_PORT_80_TCP": "tcp://10.0.0.1:80",
        "DJWORKER_PORT_80_TCP_ADDR": "10.0.0.1",
        "DJWORKER_SERVICE_HOST": "10.0.0.1",
        "DJWORKER_SERVICE_PORT_HTTP": "80",
        "DJWORKER_WEB_PORT": "tcp://10.0.0.1:80",
        "DJWORKER_WEB_SERVICE_HOST": "10.0.0.1",
        "DJWORKER_LAUNCH": "{}",
        "DJWORKER_ADOPT": "{}",
        "DJWORKER_CONTROL": "/run/shop.sock",
        "_DJWORKER_NO_SUBREAPER": "1",
        "WORKERS": "3",
    }
    assert resolved({}, environ).warnings == ()


def test_every_variable_that_the_package_uses_is_known() -> None:
    sources = (path.read_text() for path in Path(djworker.__file__).parent.rglob("*.py"))
    used = {name for source in sources for name in re.findall(r'"(DJWORKER_[A-Z_]+)"', source)}
    assert used - {VARIABLE_PREFIX} == variables.OWN


def test_a_pool_option_beside_the_pools_is_told_where_it_belongs() -> None:
    (problem,) = problems(settings={"POOL_MAX_SIZE": 3})
    assert problem.hint == "write 'POOL': {'max_size': ...}"


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"MAX_REQUESTS_JITTER": 5}, ["W001"]),
        ({"MAX_REQUESTS_JITTER": 5, "MAX_REQUESTS": 3}, ["W002"]),
        ({"MAX_REQUESTS_JITTER": 5, "MAX_REQUESTS": 50}, []),
    ],
)
def test_odd_but_usable(settings: Mapping[str, int], expected: list[str]) -> None:
    assert [warning.id for warning in resolved(settings=settings).warnings] == expected


@pytest.mark.parametrize("template", ["%(h)s 100%", "%(nope)s", "%(h)d"])
def test_a_bad_access_log_format(template: str) -> None:
    (problem,) = problems(settings={"ACCESS_LOG_FORMAT": template})
    assert problem.id == "E004"


def test_a_rule_is_silent_about_values_that_cannot_be_read() -> None:
    found = problems(settings={"MAX_REQUESTS_JITTER": 5, "MAX_REQUESTS": "x"})
    assert [problem.id for problem in found] == ["E002"]


def test_this_machine_is_asked_only_where_the_server_starts(tmp_path: Path) -> None:
    settings = {
        "USER": "no-such-user",
        "GROUP": "no-such-group",
        "BIND": ["fd://999"],
        "PID": str(tmp_path / "no-such-directory" / "pid"),
        "ACCESS_LOG": str(tmp_path),
    }
    assert resolved(settings=settings).warnings == ()
    found = problems(settings=settings, machine=True)
    assert sorted((problem.id, problem.setting) for problem in found) == [
        ("E005", "group"),
        ("E005", "user"),
        ("E007", "bind"),
        ("E008", "access_log"),
        ("E008", "pid"),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="for users other than root the group is their own, and changes nothing")
def test_a_group_alone_would_leave_the_workers_root() -> None:
    (problem,) = problems({"group": "0"}, machine=True)
    assert str(problem) == (
        "djworker.E013: group = '0' (from command line --group): without a user the workers would still be root: "
        "name the user as well"
    )


@pytest.mark.parametrize("raw, mode", [("666", 0o666), ("0o660", 0o660), ("0600", 0o600), (0o777, 0o777)])
def test_the_mode_of_sockets_is_octal(raw: object, mode: int) -> None:
    assert resolved({"socket_mode": raw}).config.socket_mode == mode
    assert resolved(settings={"SOCKET_MODE": raw}).config.socket_mode == mode


@pytest.mark.parametrize("raw", ["rw", "0888", "1666", 666, -1, True, 6.6])
def test_what_is_no_mode_is_told_with_the_remedy(raw: object) -> None:
    (problem,) = problems(settings={"SOCKET_MODE": raw})
    assert problem.hint in ("give 027 or 0o027", "give 0o000 to 0o777")
    assert problem.setting == "socket_mode"


def test_ones_own_user_and_an_existing_file_are_fine(tmp_path: Path) -> None:
    settings = {"USER": str(os.geteuid()), "GROUP": str(os.getegid()), "PID": tmp_path / "pid", "ACCESS_LOG": "-"}
    assert resolved(settings=settings, machine=True).config.pid == str(tmp_path / "pid")


def test_only_a_listening_socket_will_do() -> None:
    with socket.socket() as deaf, socket.create_server(("127.0.0.1", 0)) as listening:
        assert resolved({"bind": f"fd://{listening.fileno()}"}, machine=True).config.bind
        (problem,) = problems({"bind": f"fd://{deaf.fileno()}"}, machine=True)
        assert "does not listen" in str(problem)
    (problem,) = problems({"bind": "fd://0"}, machine=True)
    assert "no socket" in str(problem) or "not open" in str(problem)


def test_addresses_that_cannot_be_had_are_told_with_the_rest() -> None:
    asked: list[Address] = []

    def preflight(addresses: Any, account: Any) -> list[str]:
        asked.extend(addresses)
        return ["127.0.0.1:8000: address already in use"]

    found = problems({"workers": "x", "bind": ["8000", "8001"], "status_bind": "9180"}, preflight=preflight)
    assert [(problem.id, problem.setting) for problem in found] == [
        ("E002", "workers"),
        ("E011", ""),
        ("E011", "status_bind"),
    ]
    assert [address.port for address in asked] == [8000, 8001, 9180]


@given(
    st.dictionaries(
        st.sampled_from([option.key for option in OPTIONS.values()]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.binary(),
    )
)
def test_no_settings_break_the_resolver(settings: Mapping[str, object]) -> None:
    found: tuple[Problem, ...] = ()
    try:
        config = resolved(settings=settings).config
    except ConfigError as error:
        found = error.problems
    else:
        assert Config.from_json(config.to_json()) == config
    assert all("\n" not in str(problem) for problem in found)
