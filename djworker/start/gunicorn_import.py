"""``djworker import-gunicorn [FILE]``: gunicorn's options, written as our settings.

Reads what gunicorn reads, in its order: ``gunicorn.conf.py`` (which is run, as gunicorn runs it), then GUNICORN_CMD_ARGS,
then the options that follow. What it prints is a piece of Python for the settings; what has no setting is a comment.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import importlib.util
import json
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from djworker.conf.kinds import FILE, NAME, UMASK
from djworker.conf.option import Option
from djworker.conf.problems import UnreadableError
from djworker.conf.table import OPTIONS
from djworker.ipc.contract import EXIT_CONFIG
from djworker.start.gunicorn import BY_NAME, VERSIONS, Fate, Known

__all__ = ["main"]

VARIABLE: Final = "GUNICORN_CMD_ARGS"
DEFAULT_FILE: Final = "./gunicorn.conf.py"
#: Names in the file that are options for the command line, and no settings.
_ON_THE_COMMAND_LINE: Final = {"chdir", "pythonpath", "raw_env"}


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the settings. Returns the exit code: 0, or 2 where something cannot be read."""
    parser = _parser()
    try:
        given = vars(parser.parse_args(arguments))
        from_environ = vars(parser.parse_args(shlex.split(environ.get(VARIABLE, ""))))
    except ValueError as error:  # shlex: no closing quotation
        print(f"{VARIABLE}: {error}", file=sys.stderr)
        return EXIT_CONFIG
    words = [*given.pop("words"), *from_environ.pop("words")]
    files, apps = _sorted(words)
    name = next(iter(files), None) or given.get("config") or from_environ.get("config")
    try:
        read = _read(name) if name else _read(DEFAULT_FILE) if os.path.exists(DEFAULT_FILE) else {}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the file is a program
        print(_why(name or DEFAULT_FILE, error), file=sys.stderr)
        return EXIT_CONFIG
    values = {key: value for key, value in read.items() if key in BY_NAME}
    for layer in (from_environ, given):
        values |= {key: value for key, value in layer.items() if value is not None and key != "config"}
    if not values and not read:
        print(f"# Nothing to read was found: no {DEFAULT_FILE} in {os.getcwd()}, no options, no {VARIABLE}.")
    if len(apps) > 1:
        print(f"unknown words {' '.join(apps[1:])}: give one MODULE[:APP], and one file", file=sys.stderr)
        return EXIT_CONFIG
    if apps:
        values["wsgi_app"] = apps[0]
    print("\n".join(_lines(values)))
    return 0


def _why(name: str, error: BaseException) -> str:
    """Say why a file cannot be read: with the part of the traceback that is the file's own."""
    ours = (__file__, "<frozen")
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    if isinstance(error, OSError) and not own:
        return f"{name} cannot be read: {error.strerror}; name the file that gunicorn is given with -c"
    told = "".join([*traceback.format_list(own), *traceback.format_exception_only(error)])
    return f"{name} does not load:\n{told}".rstrip()


def _sorted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell files from applications: the command line may be copied from gunicorn's."""
    files = [word for word in words if word.endswith((".py", ".pyc")) or "/" in word or word.startswith("python:")]
    return files, [word for word in words if word not in files]


def _parser() -> argparse.ArgumentParser:
    usage = "djworker import-gunicorn [gunicorn.conf.py] [options of gunicorn]"
    parser = argparse.ArgumentParser(prog="djworker import-gunicorn", usage=usage, allow_abbrev=False)
    parser.add_argument("words", nargs="*", help="The file to read; ./gunicorn.conf.py where there is one.")
    for known in BY_NAME.values():
        if known.flags:
            _add(parser, known)
    return parser


def _add(parser: argparse.ArgumentParser, known: Known) -> None:
    common: dict[str, Any] = {"dest": known.name, "default": None, "help": argparse.SUPPRESS}
    if known.takes == 0:
        parser.add_argument(*known.flags, action="store_const", const=known.name != "sendfile", **common)
    elif known.takes == "?":
        parser.add_argument(*known.flags, nargs="?", const="auto", **common)
    else:
        several = known.name in {"bind", "raw_env", "reload_extra_files", "raw_paste_global_conf", "dirty_apps"}
        parser.add_argument(*known.flags, action="append" if several else "store", **common)


def _read(location: str) -> Mapping[str, Any]:
    """Run a configuration file, or import a module (``python:MODULE``), as gunicorn does."""
    for path in ("", os.getcwd()):
        if path not in sys.path:
            sys.path.insert(0, path)
    if location.startswith("python:"):
        return vars(importlib.import_module(location.removeprefix("python:")))
    path = location.removeprefix("file:")
    loader = importlib.machinery.SourceFileLoader("__config__", path)
    spec = importlib.util.spec_from_file_location("__config__", path, loader=None if path.endswith(".pyc") else loader)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules["__config__"] = module
    spec.loader.exec_module(module)
    return vars(module)


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    given = [(BY_NAME[name], value) for name, value in values.items() if value is not None]
    settings: dict[str, str] = {}
    notes: list[str] = []
    for known, value in given:
        option = OPTIONS.get(known.ours)
        if option is None:
            notes += _note(known, value)
            continue
        try:
            settings[option.key] = _literal(option, value)
        except UnreadableError as error:
            notes.append(f"{known.name} = {value!r}: {error}")
        else:
            notes += _remark(known, option)
    yield f"# {_command(values)}"
    yield "# In the settings:"
    yield "DJWORKER = {"
    yield from (f'    "{key}": {literal},' for key, literal in settings.items())
    yield "}"
    for note in notes:
        yield f"# {' '.join(note.split())}"


def _literal(option: Option, value: Any) -> str:
    """A value as Python writes it. Raises UnreadableError where our option cannot have it."""
    if option.spec.kind in {NAME, FILE} and isinstance(value, int):  # gunicorn has numbers for users
        value = str(value)
    if option.name == "proxy_protocol" and value in VERSIONS:
        value = True
    read = option.read(value)
    if option.spec.kind is UMASK:
        return option.show(read)
    return (
        json.dumps(list(read)) if isinstance(read, tuple) else json.dumps(read) if isinstance(read, str) else repr(read)
    )


def _remark(known: Known, option: Option) -> Iterator[str]:
    if known.fate is Fate.RENAMED and known.name != option.name:
        yield f"{known.name} is {option.key} here. {known.text}"
    elif known.text:
        yield f"{known.name}: {known.text}"


def _command(values: Mapping[str, Any]) -> str:
    """The command line, with what can stand nowhere else."""
    words = ["djworker", str(values.get("wsgi_app") or "MODULE[:APP]")]
    for name in sorted(_ON_THE_COMMAND_LINE & values.keys()):
        value = values[name]
        for item in value if isinstance(value, list | tuple) else [value]:
            words += [BY_NAME[name].ours, shlex.quote(str(item))]
    return f"Start: {' '.join(words)}"


def _note(known: Known, value: object) -> Iterator[str]:
    """What is to be said of an option without a setting."""
    if known.fate in {Fate.SAME, Fate.RENAMED}:
        if known.name not in {*_ON_THE_COMMAND_LINE, "wsgi_app"}:
            yield f"{known.name}: {known.ours} on the command line. {known.text}".rstrip()
        return
    shown = f"{known.name} = {value!r:.60}" if not callable(value) else f"{known.name}()"
    fate = known.fate if known.is_harmless(value) or known.fate is Fate.ABSENT else Fate.ABSENT
    yield f"{shown}: {fate}: {known.text}"
