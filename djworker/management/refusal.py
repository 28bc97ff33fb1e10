"""[arbiter to be] A project that does not load is told of as the mold tells it: an event with stage, module and traceback.

``manage.py`` loads every application before it looks for the command, so an application that does not load would end it with
Python's own traceback. ``tell_of_applications`` is called while ``djworker`` itself is being loaded; those that stand before
it in INSTALLED_APPS have been, as far as their ``apps.py`` goes.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn

from djworker import log
from djworker.conf.problems import ConfigError
from djworker.conf.resolve import resolve
from djworker.conf.table import Config
from djworker.ipc.contract import EXIT_BOOT
from djworker.mold import named_settings
from djworker.start import cli

__all__ = ["config_without_settings", "say", "tell_of_applications"]

logger = logging.getLogger("djworker")


def config_without_settings(options: Mapping[str, Any]) -> Config:
    """Return what command line and environment alone make of the options; the defaults where one is wrong: first things first."""
    try:
        return resolve(cli.overrides(options), os.environ, {}, "").config
    except ConfigError:
        return Config()


def say(config: Config, what: str, stage: str, module: str, reason: str, error: BaseException) -> None:
    """Log that nothing starts. what: ``the settings do not load``."""
    from djworker.ipc import messages  # noqa: PLC0415 - 12 ms of every start, for one that fails

    log.configure(config.log_level, config.log_format, "command")
    fields = {"stage": stage, "module": module, "error": reason}
    text = messages.tail("".join(traceback.format_exception(error)))
    log.event(logger, logging.CRITICAL, "not_started", f"{what} ({module}): {reason}", **fields, traceback=text)


def tell_of_applications(argv: Sequence[str]) -> None:
    """From now on: where an application fails to load, say it and end with 3. argv: of ``manage.py runworkers``."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        from django.apps import apps  # noqa: PLC0415 - this is called while Django is being set up

        if apps.ready or not isinstance(error, Exception):  # the command runs; or it is ended from the keyboard
            before(kind, error, trace)
            return
        _end(argv, error)

    sys.excepthook = hook


def _end(argv: Sequence[str], error: BaseException) -> NoReturn:
    module, reason = named_settings.described(error)
    say(_config(argv), "the applications do not load", "setup", module, reason, error)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os._exit(EXIT_BOOT)  # a hook cannot choose the code; and what was begun half has nothing to finish


def _config(argv: Sequence[str]) -> Config:
    from djworker.management.commands.runworkers import Command  # noqa: PLC0415 - only in this case

    try:
        known, _unknown = Command().create_parser(argv[0], argv[1]).parse_known_args(list(argv[2:]))
    except Exception:  # noqa: BLE001 - a word that argparse does not take: first things first
        return Config()
    return config_without_settings(vars(known))
