"""``manage.py runworkers``, ``djworker`` and ``python -m djworker``: decide the configuration, then become the arbiter."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import django
from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.management.base import BaseCommand, CommandParser

import djworker
from djworker import log
from djworker.accounts import Account
from djworker.conf import client_libraries, databases
from djworker.conf.address import Address, Family
from djworker.conf.pool_resolve import resolve_pools
from djworker.conf.problems import ConfigError, Problem
from djworker.conf.resolve import Resolved, foreign_sockets, resolve, together, unknown_flag
from djworker.conf.table import OPTIONS
from djworker.ipc.contract import ARBITER, EXIT_CONFIG, MOLD, Flag
from djworker.ipc.launch import Launch
from djworker.smoke import command as smoke
from djworker.start import begun, cli, environment, interpreter, words, wsgi_choice
from djworker.start.gunicorn import without_versions
from djworker.start.interpreter import Surroundings


@dataclass(slots=True)
class StartRequest:
    """[arbiter to be] What the command line asks for.

    options: as argparse names them. app: ``MODULE[:APP]``, or empty. problems: what is wrong with the words; what is only
    odd is among them. surroundings: where the server starts.
    """

    options: dict[str, Any]
    app: str
    problems: list[Problem]
    surroundings: Surroundings

    @property
    def means_otherwise(self) -> bool:
        """Whether a word means something else here: the settings have no part in the answer."""
        return any(problem.id == "E031" for problem in self.problems)

    @property
    def serves(self) -> bool:
        """Whether a server is to be started now. Printing and checking are for any machine, also beside a server that runs."""
        return not (self.options["print_config"] or self.options["check"])


class Command(BaseCommand):
    """[arbiter to be] Runs in the process that becomes the arbiter: same process id, right for every supervisor.

    ``manage.py`` has imported Django here, unpatched, and perhaps threads and connections with it. Nothing of that may
    live on in a server, so the process is replaced, not continued.
    """

    help = "Serve this project: an arbiter, and workers that are replaced one by one when the code changes (HUP)."
    # The mold runs the checks, in the interpreter that will serve; here they would cost the same time twice.
    requires_system_checks = []  # noqa: RUF012 - Django's own form
    #: Whether a word may be ``MODULE[:APP]``: ``manage.py`` has chosen the settings already.
    takes_app = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: How this process becomes a module with a launch; a child of it hands both to its parent.
        self.become: Callable[[Sequence[str], Launch], NoReturn] = become

    def get_version(self) -> str:
        """Return djworker's version, and those of what it stands on."""
        gevent = importlib.metadata.version("gevent")  # not imported: this process is not to be patched
        python = platform.python_version()
        return f"djworker {djworker.__version__} (Python {python}, Django {django.get_version()}, gevent {gevent})"

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Refuse abbreviated options: ``--work 4`` would change its meaning with the next version."""
        app = "[MODULE[:APP]]" if self.takes_app else ""
        usage = " ".join(filter(None, (os.path.basename(prog_name), subcommand, app, "[ADDR:PORT] [options]")))
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.allow_abbrev, parser.usage = False, usage  # django-configurations' own create_parser takes no arguments
        parser.prog = parser.prog.strip()  # where the program's name is all there is
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        """Add every option of the table, and what to do instead of serving."""
        instead = parser.add_argument_group("Instead of serving")
        instead.add_argument(
            "--check", "--check-config", action="store_true", help="Load the project as a mold would, then leave."
        )
        instead.add_argument("--print-config", action="store_true", help="Show every option and where it came from.")
        instead.add_argument("--format", choices=("text", "json"), default="text", help="Form of --print-config.")
        smoke.add_arguments(instead)
        cli.add_arguments(parser)

    def run_from_argv(self, argv: list[str]) -> None:
        """Tell of unknown options together with every other problem, not by themselves."""
        if smoke.asks_for_smoke(argv[2:]):
            sys.exit(smoke.main([*smoke.program_of(argv[0]), argv[1]], argv[2:]))
        self.run(self.read(argv))

    def read(self, argv: Sequence[str]) -> StartRequest:
        """Read the command line, and go where it says. Nothing of the project is needed for that."""
        self._called_from_command_line = True  # or argparse's complaints would come as tracebacks
        known, unknown = self.create_parser(argv[0], argv[1]).parse_known_args(without_versions(argv[2:]))
        options = vars(known)
        problems = [*cli.answers(options.pop(cli.OTHERS)), *_without_smoke(options)]
        environ = self._enter(options, problems)
        app = self._read_words(options, unknown, problems)
        return StartRequest(options, app, problems, Surroundings.note(environ))

    def _enter(self, options: dict[str, Any], problems: list[Problem]) -> dict[str, str]:
        """Go where the command line says; what it adds to the environment."""
        environ = interpreter.enter(options["chdir"], options["pythonpath"], options["env"], problems)
        if options["settings"]:
            environ[ENVIRONMENT_VARIABLE] = os.environ[ENVIRONMENT_VARIABLE] = options["settings"]
        if self.takes_app:
            if os.getcwd() not in sys.path:
                sys.path.insert(0, os.getcwd())  # as gunicorn: a console script has its own folder there
        elif complaint := _late_choice(environ.get(ENVIRONMENT_VARIABLE)):
            problems.append(complaint)
        return environ

    def _read_words(self, options: dict[str, Any], unknown: Sequence[str], problems: list[Problem]) -> str:
        """Sort what argparse leaves; the application, where one is named."""
        flags = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        problems += map(unknown_flag, flags)
        first = options[cli.POSITIONAL]
        # A word after an unknown option may be its value, and would be taken for the address.
        given = [] if flags else [*([first] if first else []), *unknown]
        found = words.read(given, sys.path, takes_app=self.takes_app)
        problems += found.problems
        options[cli.POSITIONAL] = found.address or None
        return found.app

    def run(self, request: StartRequest) -> None:
        """Do it, as ``manage.py`` would."""
        self.execute(request=request, **request.options)

    def handle(self, *_args: Any, request: StartRequest | None = None, **options: Any) -> None:
        """Resolve the options, then print them, check, or become the arbiter."""
        if request is None:  # call_command()
            request = StartRequest(options, "", [], Surroundings.note())
        try:
            resolved = self._resolve(request)
        except ConfigError as error:
            self._refuse(error.problems, as_json=_wants_json(cli.overrides(options)))
        if options["print_config"] and options["check"]:
            both = Problem("E001", "--check and --print-config cannot be given together", "give one, then the other")
            self._refuse([both], as_json=_wants_json(cli.overrides(options)))
        _warn(
            resolved,
            [
                *resolved.warnings,
                *_choices(request),
                *_unread(request),
                *foreign_sockets(os.environ, request.surroundings.pid),
            ],
        )
        if options["print_config"]:
            show = cli.config_as_json if options["format"] == "json" else cli.config_as_text
            self.stdout.write(show(resolved))
            return
        module = [MOLD, Flag.CHECK] if options["check"] else [ARBITER]
        self.become(module, _launch(request, resolved))

    def _resolve(self, request: StartRequest) -> Resolved:
        problems = list(request.problems)
        if request.means_otherwise:
            raise ConfigError(problems)
        if not os.environ.get(ENVIRONMENT_VARIABLE) and not (request.app and settings.configured):
            raise ConfigError([*problems, _no_settings(takes_app=self.takes_app)])
        given = getattr(settings, "DJWORKER", {})
        overrides = cli.overrides(request.options)
        pools, found = resolve_pools(given, settings.DATABASES, overrides, os.environ)
        resolved = together(
            [
                *problems,
                *databases.malformed(settings.DATABASES),
                *found,
                *([] if request.options["print_config"] else client_libraries.missing(settings.DATABASES)),
            ],
            lambda: resolve(
                overrides,
                os.environ,
                given,
                _project_name(request),
                inherited=request.surroundings.inherited,
                machine=request.serves,
                preflight=_preflight if request.serves else None,
            ),
        )
        return replace(resolved, pools=pools)

    def _refuse(self, problems: Iterable[Problem], *, as_json: bool) -> NoReturn:
        if as_json:
            log.configure("info", "json", "command")
        for problem in problems:
            if as_json:
                level = logging.WARNING if problem.level == "warning" else logging.ERROR
                fields = {"id": problem.id, "setting": problem.setting}
                log.event(logging.getLogger("djworker"), level, "config_error", str(problem), **fields)
                continue
            self.stderr.write(str(problem), self.style.WARNING if problem.level == "warning" else None)
        sys.exit(EXIT_CONFIG)


def _without_smoke(options: dict[str, Any]) -> Iterator[Problem]:
    """Refuse what only a smoke test has a use for: without one, a server would start that runs for good."""
    for flag, given in (("--expect", options.pop("expect")), ("--json", options.pop("json"))):
        if given:
            yield Problem("E001", f"{flag} belongs to --smoke", "add --smoke, or leave it out")
    options.pop("smoke")


def _wants_json(overrides: Mapping[str, Any]) -> bool:
    """Whether the log was to be JSON, as far as options can be believed of which some are wrong."""
    given = getattr(settings, "DJWORKER", {}) if settings.configured else {}
    named = given.get("LOG_FORMAT") if isinstance(given, Mapping) else None
    return (overrides.get("log_format") or os.environ.get(OPTIONS["log_format"].variable) or named) == "json"


def _late_choice(chosen: str | None) -> Problem | None:
    """What is wrong with naming settings by ``--env`` to a ``manage.py``, which has loaded some before."""
    loaded = getattr(settings, "SETTINGS_MODULE", None) if settings.configured else None
    if chosen in {None, loaded}:
        return None
    text = f"--env {ENVIRONMENT_VARIABLE}={chosen}: manage.py has loaded {loaded or 'settings'} already"
    return Problem("E032", text, "give --settings, or start with 'djworker'")


def _no_settings(*, takes_app: bool) -> Problem:
    if takes_app:
        hint = "name the WSGI module, as in 'djworker shop.wsgi', or the settings module with --settings"
    else:
        hint = "name the settings module with it or with --settings: each new generation loads it anew"
    return Problem("E012", f"{ENVIRONMENT_VARIABLE} is not set", hint)


def _preflight(addresses: Sequence[Address], account: Account | None) -> Sequence[str]:
    from djworker.arbiter.listeners import preflight  # noqa: PLC0415 - --help and --print-config need no sockets

    return preflight(addresses, account=account)


def _project_name(request: StartRequest) -> str:
    module = os.environ.get(ENVIRONMENT_VARIABLE) or request.app.partition(":")[0]
    return interpreter.project_name(module, request.surroundings.cwd)


def _choices(request: StartRequest) -> Iterator[Problem]:
    """A warning where gunicorn would have been told other settings by ``wsgi.py``: development's are in use then, mostly."""
    used = os.environ.get(ENVIRONMENT_VARIABLE, "")
    module = _wsgi_module()
    source = wsgi_choice.source_of(module, sys.path) if module and not request.app else None
    if source is None or request.options["settings"]:
        return
    before = request.surroundings.environ.get(ENVIRONMENT_VARIABLE)
    chosen = wsgi_choice.choices(source, wsgi_choice.initial_value(os.environ, before))
    if chosen and used not in chosen:
        debug = " with DEBUG=True" if settings.DEBUG else ""
        text = f"{module} chooses the settings {' or '.join(sorted(chosen))}, and {used} is in use{debug}"
        hint = f"start with 'djworker {module}' as gunicorn was, or set {ENVIRONMENT_VARIABLE}, or give --settings"
        yield Problem("W031", text, hint, level="warning")


def _wsgi_module() -> str:
    """The module that gunicorn would have been given: WSGI_APPLICATION's, or wsgi.py beside the URLconf."""
    named = getattr(settings, "WSGI_APPLICATION", None)
    if isinstance(named, str):
        return named.rpartition(".")[0]
    package = str(getattr(settings, "ROOT_URLCONF", "")).rpartition(".")[0]
    return f"{package}.wsgi" if package else ""


def _unread(request: StartRequest) -> Iterator[Problem]:
    """Where gunicorn would have found options, which are not read here."""
    hint = "'djworker import-gunicorn' prints the settings that do the same"
    if request.app and os.environ.get("GUNICORN_CMD_ARGS"):
        yield Problem("W032", "GUNICORN_CMD_ARGS is set, and not read", f"{hint}; then unset it", level="warning")
    if request.app and os.path.exists("gunicorn.conf.py"):
        yield Problem("W032", "gunicorn.conf.py lies here, and is not read", f"{hint}; then rename it", level="warning")


def _warn(resolved: Resolved, problems: Sequence[Problem]) -> None:
    """Log what is odd in the form that the server's log will have: a program may read JSON from the first line."""
    config = resolved.config
    log.configure(config.log_level, "json" if config.log_format == "json" else "text", "command")
    for problem in problems:
        if f"djworker.{problem.id}" in settings.SILENCED_SYSTEM_CHECKS:
            continue
        logger = logging.getLogger("djworker")
        log.event(logger, logging.WARNING, "config_warning", str(problem), id=problem.id, setting=problem.setting)


def _launch(request: StartRequest, resolved: Resolved) -> Launch:
    surroundings = request.surroundings
    return Launch(
        settings_module=os.environ.get(ENVIRONMENT_VARIABLE, ""),
        sys_path=surroundings.sys_path,
        cwd=surroundings.cwd,
        cli=cli.overrides(request.options),
        inherited=surroundings.inherited,
        config=resolved.config,
        proc_name=_project_name(request),
        python_flags=interpreter.python_flags(),
        descriptor_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        app=request.app,
        environ=surroundings.environ,
    )


def _hold_signals() -> None:
    """Have the arbiter take what is sent from now on: until its handlers stand, a HUP would simply end the process."""
    from djworker.arbiter.signal_queue import HANDLED  # noqa: PLC0415 - as above

    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)


def become(module: Sequence[str], launch: Launch) -> NoReturn:
    """Replace this process. What was not written yet would be lost; what is open closes by itself (PEP 446)."""
    if module == [ARBITER]:
        _hold_signals()
    environ, kept = environment.for_server(os.environ)
    if kept:
        text = f"the program itself sets {', '.join(kept)}: a reload keeps their values, unless the settings set them instead"
        log.event(logging.getLogger("djworker"), logging.INFO, "environment_kept", text, names=kept)
    if ended := begun.end():
        text = f"processes that were begun while the settings were loaded end with this command: {', '.join(ended)}"
        log.event(logging.getLogger("djworker"), logging.INFO, "processes_ended", text, processes=ended)
    environ = interpreter.environment_of(environ)
    launch = replace(launch, search_path=interpreter.search_path(environ))
    environ = launch.for_mold(environ)
    if module == [ARBITER]:
        environ["PYTHONPATH"] = interpreter.without_agents(launch.search_path)
    addresses = map(Address.parse, launch.config.bind)
    interpreter.keep_open([address.fd for address in addresses if address.family is Family.FD])
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it is closed
        stream.flush()
    logging.shutdown()
    os.execve(sys.executable, [sys.executable, *launch.python_flags, "-m", *module], environ)  # noqa: S606 - ourselves, without a shell
