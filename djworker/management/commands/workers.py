"""``manage.py workers``: the same as ``djworkerctl``, with the directory of ``manage.py`` as the project's."""

from __future__ import annotations

import os
import sys

from django.core.management.base import BaseCommand, CommandParser

from djworker.control.commands import build_parser, main


class Command(BaseCommand):
    """[client] Needs nothing of the project: what ``manage.py`` itself loads before is all."""

    help = "Ask the running server of this project, and steer it: status, reload --wait, requests, pool ..."
    requires_system_checks = []  # noqa: RUF012 - Django's own form

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """Print the verbs."""
        build_parser(_program(prog_name, subcommand)).print_help()

    def run_from_argv(self, argv: list[str]) -> None:
        """Leave with the exit code of the verb."""
        sys.exit(main(argv[2:], _program(argv[0], argv[1]), argv[0]))

    def add_arguments(self, parser: CommandParser) -> None:
        """For ``call_command``: the words of the command line."""
        parser.add_argument("words", nargs="*")

    def handle(self, *_args: object, **options: object) -> None:
        """``call_command("workers", "status")``: raises SystemExit where it is not done."""
        words = options["words"]
        code = main([str(word) for word in words] if isinstance(words, list) else [], "workers", sys.argv[0])
        if code:
            sys.exit(code)


def _program(path: str, subcommand: str) -> str:
    return f"{os.path.basename(path)} {subcommand}"
