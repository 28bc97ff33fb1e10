"""``python -m djworker [ADDR:PORT] [options]``: ``runworkers`` without ``manage.py``, for a container or a unit file.

``manage.py`` loads the settings and every application before it looks at the command's name, so what is wrong there ends it
with Python's own traceback and exit code 1. Here only the settings are read, for the options in them, and the rest is left to
the mold: whatever does not load is an event of the log, with its module, and the exit code is 3.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from argparse import Namespace
from typing import TYPE_CHECKING, NoReturn

from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.management.base import CommandError, CommandParser, handle_default_options

from djworker import cli, log, messages
from djworker.arbiter.timing import EXIT_BOOT
from djworker.conf import Config
from djworker.management.commands.runworkers import Command
from djworker.problems import ConfigError
from djworker.resolve import resolve
from djworker.worker import blame

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger("djworker")

PROGRAM = "python -m djworker"


def main(arguments: Sequence[str]) -> None:
    """Read the settings, then do what ``manage.py runworkers`` does."""
    known = _parse(arguments)
    handle_default_options(known)
    try:
        _read_settings()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - settings are a program, and may end in every way there is
        _refuse(error, known)
    Command().run_from_argv([PROGRAM, "", *arguments])


def _parse(arguments: Sequence[str]) -> Namespace:
    """What counts before the settings are read; the command itself complains about everything else."""
    parser = CommandParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--settings")
    parser.add_argument("--pythonpath")
    cli.add_arguments(parser)
    try:
        return parser.parse_known_args(arguments)[0]
    except CommandError:
        return Namespace(settings=None, pythonpath=None)


def _read_settings() -> None:
    if os.environ.get(ENVIRONMENT_VARIABLE):  # where it is missing, the command says so, with all else that is wrong
        settings.INSTALLED_APPS  # noqa: B018 - this is how Django itself loads them


def _refuse(error: BaseException, known: Namespace) -> NoReturn:
    """Say it as the mold would, in the form that the log was to have."""
    config = _config_without_settings(known)
    log.configure(config.log_level, config.log_format, "command")
    module = blame.module_of(error)
    reason = f"sys.exit({error.code!r})" if isinstance(error, SystemExit) else blame.sentence(error)
    fields = {"stage": "settings", "module": module, "error": reason}
    text = messages.tail("".join(traceback.format_exception(error)))
    message = f"the settings do not load ({module}): {reason}"
    log.event(logger, logging.CRITICAL, "not_started", message, **fields, traceback=text)
    sys.exit(EXIT_BOOT)


def _config_without_settings(known: Namespace) -> Config:
    try:
        return resolve(cli.overrides(vars(known)), os.environ, {}, "").config
    except ConfigError:  # an option is wrong too; first things first
        return Config()


if __name__ == "__main__":
    main(sys.argv[1:])
