"""Words of the command line that are no options: what they name, and the right answer to those that mean something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from djworker.conf.problems import Problem, UnreadableError
from djworker.start import application, wsgi_choice
from djworker.start.application import Target

MANAGE: Final = "manage.py"
_LEAVE: Final = "leave the word out: the server starts without it"
#: What other tools call their commands.
_VERBS: Final[Mapping[str, str]] = {
    "reload": "djworkerctl reload --wait, or systemctl reload SERVICE, brings new code into a running server",
    "restart": "systemctl restart SERVICE; for a new release, djworkerctl reload --wait loses no request",
    "stop": "djworkerctl stop, or systemctl stop SERVICE, ends a running server",
    "status": "djworkerctl status tells of a running server",
    "scale": "djworkerctl scale N for a running server, --workers N at the start",
    "start": _LEAVE,
    "serve": _LEAVE,
    "run": _LEAVE,
    "runserver": _LEAVE,
    "runworkers": _LEAVE,
    "help": "--help shows every option",
    "version": "--version",
    "check": "--check loads the project and leaves",
    "config": "--print-config shows every option and where it came from",
}


@dataclass(frozen=True, slots=True)
class Words:
    """What the words name: an application (``MODULE[:APP]``) and an address, each empty where there is none."""

    app: str = ""
    address: str = ""
    problems: tuple[Problem, ...] = ()


def read(words: Sequence[str], path: Sequence[str], *, takes_app: bool) -> Words:
    """Tell which word is what.

    path: as ``sys.path``, in which a module is looked for. takes_app: whether an application may be named at all;
    ``manage.py`` has chosen the settings, and with them the application, before it looks at any word.
    """
    app = address = ""
    problems: list[Problem] = []
    surplus: list[str] = []
    for word in words:
        if complaint := _complaint(word, path, takes_app=takes_app):
            problems.append(complaint)
        elif takes_app and not app and _names_application(word):
            app = word
        elif not address:
            address = word
        else:
            surplus.append(word)
    if surplus:
        hint = "give one MODULE[:APP] and one ADDR:PORT" if takes_app else "give one ADDR:PORT"
        problems.append(Problem("E001", f"unknown words {' '.join(surplus)}", hint))
    return Words(app, address, tuple(problems))


def _names_application(word: str) -> bool:
    return application.looks_like_a_module(word) and word != "localhost"


def _complaint(word: str, path: Sequence[str], *, takes_app: bool) -> Problem | None:
    if word in _VERBS:
        return Problem("E031", f"{word!r} is no command", _VERBS[word])
    name, colon, rest = word.partition(":")
    if module := application.suggestion(name):
        meant = f"{module}{colon}{rest}"
        hint = f"write {meant}" if takes_app else _without_app(meant)
        if word == MANAGE:
            hint = (
                f"'python {MANAGE} runworkers' serves the project, and so does 'djworker shop.wsgi' if shop has wsgi.py"
            )
        elif module.endswith("conf"):
            hint = f"'djworker import-gunicorn {word}' prints the settings in it"
        return Problem("E031", f"{word!r} is a file, and a module is wanted", hint)
    if not takes_app and _is_module(word, path):
        return Problem("E031", f"{word!r} is no address", _without_app(word))
    if takes_app and _names_application(word):
        try:
            Target.parse(word)
        except UnreadableError as error:
            return Problem("E031", f"{word!r}: {error.message}", error.hint)
    return None


def _is_module(word: str, path: Sequence[str]) -> bool:
    module = word.partition(":")[0]
    return application.looks_like_a_module(word) and (
        "wsgi" in module or "asgi" in module or wsgi_choice.source_of(module, path) is not None
    )


def _without_app(word: str) -> str:
    return f"manage.py serves WSGI_APPLICATION of the settings, so leave the word out; 'djworker {word}' is gunicorn's form"
