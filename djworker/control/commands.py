"""The command line: finds the server, asks it, prints the answer, and says by the exit code how it went."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import djworker
from djworker.conf.slips import did_you_mean
from djworker.control import gathering, text
from djworker.control.client import ControlConnection, RefusedError, UnreachableError
from djworker.control.finding import PATHS, Instance, NoServerError, SeveralServersError, find
from djworker.control.places import here
from djworker.control.protocol import VERSION
from djworker.control.verbs import READERS, TOP_INTERVAL, VERBS, Argument, Verb

__all__ = ["EXIT_DONE", "EXIT_FAILED", "EXIT_NO_SERVER", "EXIT_USAGE", "build_parser", "main"]

#: Done · refused or failed, with the reason on standard error · wrong words, or it is not clear which server · no server runs.
EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_NO_SERVER: Final = 4
#: As a shell has it for SIGINT.
EXIT_INTERRUPTED: Final = 130
#: Seconds beyond those that the server itself waits.
MARGIN: Final = 10.0

#: Words of other tools, and what does the same here.
_MEANT: Final[Mapping[str, str]] = {
    "restart": "systemctl restart SERVICE; for a new release, 'reload --wait' loses no request",
    "start": "'djworker shop.wsgi' or systemctl start SERVICE starts a server",
    "workers": "'status' lists the workers",
    "ps": "'status' lists the workers",
    "list": "'status' lists the workers, and 'requests' the requests",
    "help": "--help lists the verbs",
    "version": "--version",
}
_INSTANCE_HELP: Final = (
    "the server, if it is not that of the project in this directory: its process id, or the path of its control socket"
)


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser, made from the table of verbs. prog: how the program was called."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Ask the running server of this project, and steer it.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"djworker {djworker.__version__}")
    parser.add_argument("--instance", metavar="PID", default="", type=_instance, help=_INSTANCE_HELP)
    common = argparse.ArgumentParser(add_help=False)
    # Without a default: one that stands before the verb must not be undone here.
    common.add_argument("--instance", metavar="PID", default=argparse.SUPPRESS, type=_instance, help=_INSTANCE_HELP)
    commands = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS.values():
        if not verb.hidden:
            command = commands.add_parser(
                verb.name, help=verb.help, description=verb.help, parents=[common], allow_abbrev=False
            )
            _add_arguments(command, verb)
    return parser


def _add_arguments(command: argparse.ArgumentParser, verb: Verb) -> None:
    for argument in verb.arguments:
        if argument.kind is bool:
            command.add_argument(f"--{argument.name}", action="store_true", help=argument.help)
        elif argument.flag:
            note = f"{argument.help} [default: {argument.default:g}]"
            command.add_argument(
                f"--{argument.name}", type=_reader(argument), metavar=argument.metavar, default=None, help=note
            )
        else:
            command.add_argument(
                argument.name,
                type=_reader(argument),
                metavar=argument.metavar,
                nargs="?" if argument.optional else None,
                help=argument.help + (f": {', '.join(argument.choices)}" if argument.choices else ""),
            )
    if verb.reads:
        command.add_argument("--json", action="store_true", help="print JSON, see the reference of schemas")


def _instance(word: str) -> str:
    if word and not word.isdecimal() and not word.startswith(PATHS):
        raise argparse.ArgumentTypeError(f"{word!r}: give a process id, or the path of a control socket")
    return word


def _complaint(words: Sequence[str]) -> str:
    """What is wrong with the verb, where another word is meant; argparse would list all of them."""
    told = [word for before, word in pairwise(("", *words)) if before != "--instance" and not word.startswith("-")]
    verb = next(iter(told), "")
    shown = [known.name for known in VERBS.values() if not known.hidden]
    meant = "" if verb in shown else _MEANT.get(verb) or did_you_mean(verb, shown)
    return f"{verb!r} is no verb: {meant}" if meant else ""


def _reader(argument: Argument) -> Any:
    def read(word: str) -> Any:
        try:
            value = READERS[argument.kind](word.lower() if argument.choices else word)
        except ValueError:
            value = None
        if value is None or not argument.fits(value):
            raise argparse.ArgumentTypeError(f"{word!r}: give {argument.takes}")
        return value

    return read


def main(words: Sequence[str], prog: str = "djworkerctl", program: str = "") -> int:
    """Do what the words say; the exit code.

    Args:
        words: the command line, without the program's name.
        prog: that name, for messages.
        program: path of ``manage.py``, whose directory is the project's; empty where it is not known.
    """
    parser = build_parser(prog)
    try:
        if complaint := _complaint(words):
            parser.error(complaint)
        options = vars(parser.parse_args(words))
    except SystemExit as error:  # argparse has said why; --help and --version are no errors
        return error.code if isinstance(error.code, int) else EXIT_USAGE
    try:
        return _run(options, program)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `... | head`: the reader is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE


def _run(options: dict[str, Any], program: str) -> int:
    verb = VERBS[options.pop("verb")]
    instance, as_json = options.pop("instance"), options.pop("json", False)
    arguments = {name: value for name, value in options.items() if value is not None}
    try:
        server = find(instance, here(os.environ, program), os.environ)
        if server.refusal:
            return _fail(server.refusal)
        return (
            _top(instance, program, arguments, as_json=as_json)
            if verb.local
            else _ask(server, verb, arguments, as_json=as_json)
        )
    except NoServerError as error:
        return _fail(str(error), EXIT_NO_SERVER)
    except SeveralServersError as error:
        return _fail(str(error), EXIT_USAGE)
    except UnreachableError as error:
        return _fail(str(error))
    except RefusedError as error:
        return _fail(_reason(error.fields))


def _ask(server: Instance, verb: Verb, arguments: Mapping[str, Any], *, as_json: bool) -> int:
    timeout = float(arguments.get("timeout") or _default_timeout(verb)) + MARGIN
    with ControlConnection(server.address, timeout) as connection:
        answer = gathering.collect(verb.name, connection.ask(verb.name, arguments), _show_progress)
    if answer.get("refused"):
        return _fail(text.printable(str(answer["refused"])))
    if as_json:
        print(json.dumps({"version": VERSION, "verb": verb.name, **answer}, indent=2))
    else:
        print(text.render(verb.name, answer))
    return EXIT_DONE


def _top(instance: str, program: str, arguments: Mapping[str, Any], *, as_json: bool) -> int:
    from djworker.control.top import command  # noqa: PLC0415 - what needs a terminal is imported where one is used

    project = here(os.environ, program)
    interval = arguments.get("interval", TOP_INTERVAL)
    command.run(lambda: find(instance, project, os.environ), interval, arguments.get("count", 0), as_json=as_json)
    return EXIT_DONE


def _default_timeout(verb: Verb) -> float:
    return next((float(one.default) for one in verb.arguments if one.name == "timeout"), 0.0)


def _show_progress(fields: Mapping[str, Any]) -> None:
    print(text.progress(fields), flush=True)


def _reason(fields: Mapping[str, Any]) -> str:
    """Return why it was refused; a traceback stands before it, so that the last line is the reason."""
    reason = text.printable(str(fields.get("reason", "")))
    traceback = fields.get("traceback")
    return f"{text.block(str(traceback))}\n{reason}" if traceback else reason


def _fail(reason: str, code: int = EXIT_FAILED) -> int:
    print(reason, file=sys.stderr)
    return code
