"""``manage.py runworkers``, and ``python -m djworker``: decide the configuration, then become the arbiter."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.management.base import BaseCommand, CommandParser

from djworker import cli, log, starting
from djworker.accounts import Account
from djworker.address import Address, Family
from djworker.launch import VARIABLE, Launch
from djworker.problems import ConfigError, Problem
from djworker.resolve import Resolved, passed_sockets, resolve, unknown_flag

EXIT_CONFIGURATION = 2


class Command(BaseCommand):
    """[arbiter to be] Runs in the process that becomes the arbiter: same process id, right for every supervisor.

    ``manage.py`` has imported Django here, unpatched, and perhaps threads and connections with it. Nothing of that may
    live on in a server, so the process is replaced, not continued.
    """

    help = "Serve this project: an arbiter, and workers that are replaced one by one when the code changes (HUP)."
    # The mold runs the checks, in the interpreter that will serve; here they would cost the same time twice.
    requires_system_checks = []  # noqa: RUF012  (Django's own form)

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:  # noqa: ANN401
        """Refuse abbreviated options: ``--work 4`` would change its meaning with the next version."""
        usage = " ".join(filter(None, (os.path.basename(prog_name), subcommand, "[ADDR:PORT] [options]")))
        parser = super().create_parser(prog_name, subcommand, **{"allow_abbrev": False, "usage": usage, **kwargs})
        parser.prog = parser.prog.strip()  # where the program's name is all there is
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        """Add every option of the table, and what to do instead of serving."""
        instead = parser.add_argument_group("Instead of serving")
        instead.add_argument("--check", action="store_true", help="Load the project as a mold would, then leave.")
        instead.add_argument("--print-config", action="store_true", help="Show every option and where it came from.")
        instead.add_argument("--format", choices=("text", "json"), default="text", help="Form of --print-config.")
        cli.add_arguments(parser)

    def run_from_argv(self, argv: list[str]) -> None:
        """Tell of unknown options together with every other problem, not by themselves."""
        self._called_from_command_line = True  # or argparse's complaints would come as tracebacks
        known, unknown = self.create_parser(argv[0], argv[1]).parse_known_args(argv[2:])
        flags = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        if unknown:
            problems = [unknown_flag(flag) for flag in flags] or [
                Problem("E001", f"unknown words {' '.join(unknown)}", "give one ADDR:PORT")
            ]
            # A word after an unknown option may be its value, and would be taken for the address.
            given = {**vars(known), cli.POSITIONAL: None} if flags else vars(known)
            self._refuse([*problems, *self._other_problems(given)])
        super().run_from_argv(argv)

    def _other_problems(self, arguments: Mapping[str, Any]) -> Sequence[Problem]:
        try:
            self._resolve(arguments, starting=True)
        except ConfigError as error:
            return error.problems
        return ()

    def handle(self, *_args: Any, **options: Any) -> None:  # noqa: ANN401
        """Resolve the options, then print them, check, or become the arbiter."""
        try:
            # Printing and checking are for any machine and any moment, also beside a server that runs.
            resolved = self._resolve(options, starting=not (options["print_config"] or options["check"]))
        except ConfigError as error:
            self._refuse(error.problems)
        if options["print_config"]:
            show = cli.config_as_json if options["format"] == "json" else cli.config_as_text
            self.stdout.write(show(resolved))
            return
        _warn(resolved)
        launch = _launch(resolved, cli.overrides(options))
        if options["check"]:
            _become(["djworker.worker.mold", "--check"], launch)
        _hold_signals()
        _become(["djworker.arbiter"], launch)

    def _resolve(self, arguments: Mapping[str, Any], *, starting: bool) -> Resolved:
        if not os.environ.get(ENVIRONMENT_VARIABLE):
            hint = "name the settings module with it or with --settings: each new generation loads it anew"
            raise ConfigError([Problem("E012", f"{ENVIRONMENT_VARIABLE} is not set", hint)])
        return resolve(
            cli.overrides(arguments),
            os.environ,
            getattr(settings, "DJWORKER", {}),
            _project_name(),
            inherited=passed_sockets(os.environ, os.getpid()),
            machine=starting,
            preflight=_preflight if starting else None,
        )

    def _refuse(self, problems: Iterable[Problem]) -> NoReturn:
        for problem in problems:
            self.stderr.write(str(problem), self.style.WARNING if problem.level == "warning" else None)
        sys.exit(EXIT_CONFIGURATION)


def _preflight(addresses: Sequence[Address], account: Account | None) -> Sequence[str]:
    from djworker.arbiter.listeners import preflight  # noqa: PLC0415  (--help and --print-config need no sockets)

    return preflight(addresses, account=account)


def _project_name() -> str:
    return starting.project_name(os.environ.get(ENVIRONMENT_VARIABLE, ""), starting.logical_cwd(os.environ))


def _warn(resolved: Resolved) -> None:
    """Log what is odd in the form that the server's log will have: somebody may be reading JSON from the first line."""
    if resolved.warnings:
        config = resolved.config
        log.configure(config.log_level, "json" if config.log_format == "json" else "text", "command")
    for problem in resolved.warnings:
        logger = logging.getLogger("djworker")
        log.event(logger, logging.WARNING, "config_warning", str(problem), id=problem.id, setting=problem.setting)


def _launch(resolved: Resolved, overrides: Mapping[str, Any]) -> Launch:
    return Launch(
        settings_module=os.environ[ENVIRONMENT_VARIABLE],
        sys_path=starting.import_path(sys.path, os.environ),
        cwd=starting.logical_cwd(os.environ),
        cli=overrides,
        inherited=passed_sockets(os.environ, os.getpid()),
        config=resolved.config,
        proc_name=_project_name(),
        python_flags=starting.python_flags(),
        descriptor_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _hold_signals() -> None:
    """Have the arbiter take what is sent from now on: until its handlers stand, a HUP would simply end the process."""
    from djworker.arbiter.signals import HANDLED  # noqa: PLC0415  (as above)

    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)


def _become(module: Sequence[str], launch: Launch) -> NoReturn:
    """Replace this process. What was not written yet would be lost; what is open closes by itself (PEP 446)."""
    environ = {**os.environ, VARIABLE: launch.to_json()}
    if path := starting.search_path(os.environ):
        environ["PYTHONPATH"] = path
    addresses = map(Address.parse, launch.config.bind)
    starting.keep_open([address.fd for address in addresses if address.family is Family.FD])
    sys.stdout.flush()
    sys.stderr.flush()
    logging.shutdown()
    os.execve(sys.executable, [sys.executable, *launch.python_flags, "-m", *module], environ)  # noqa: S606
