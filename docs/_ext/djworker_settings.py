# ruff: noqa: INP001 - Sphinx finds extensions by folder
"""Sphinx directives that write the reference from the tables in the code, so that it cannot be out of date.

``djworker-settings`` lists every option by group, ``djworker-pool-options`` the options of database pools, and
``djworker-overview`` is a table of either. ``djworker-problems`` lists every problem id (with letters, such as ``E0``, those that
begin so), ``djworker-atoms`` the atoms of the access log, ``djworker-gunicorn`` what becomes of gunicorn's options.

Options can be referred to as ``:confval:`WORKERS``` and ``:confval:`POOL.max_size```.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

from djworker_generated import Generated

from djworker.conf import pool_table, problems, table
from djworker.conf.kinds import FLAG
from djworker.log import access
from djworker.start import cli, gunicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

    from djworker.conf.option import Option


class _Generated(Generated):
    sources = tuple(module.__file__ for module in (access, cli, table, gunicorn, pool_table, problems))


class Settings(_Generated):
    """Every option, by group."""

    def lines(self) -> Iterator[str]:
        """Return a section for each group."""
        for group, options in groupby(table.OPTIONS.values(), key=lambda option: option.spec.group):
            yield from (group, "-" * len(group), "")
            for option in options:
                yield from _option(option)


def _name(option: Option) -> str:
    """What the documentation refers to it by."""
    return option.title if option.section else option.key


def _option(option: Option) -> Iterator[str]:
    yield f".. confval:: {_name(option)}"
    yield f"   :type: {option.spec.kind.name}"
    yield f"   :default: {option.spec.default_note or _literal(cli.default_text(option))}"
    yield from ("", f"   {_escape(option.spec.help)}", "")
    yield from (f"   :Command line: {_flags(option)}", f"   :Environment: {_variables(option)}")
    if option.bounds:
        yield f"   :Bounds: {option.bounds}{' ' + option.spec.kind.unit if option.spec.kind.unit else ''}"
    yield f"   :On a reload: {'adopted' if option.spec.reloadable else 'needs a restart'}"
    yield ""


def _flags(option: Option) -> str:
    names = [*option.flags, f"--no-{option.flag.removeprefix('--')}"] if option.spec.kind is FLAG else option.flags
    metavar = f" {option.spec.kind.metavar}" if option.spec.kind.metavar else ""
    repeatable = ", repeatable" if option.spec.kind.repeatable else ""
    return ", ".join(f"``{name}{metavar}``" for name in names) + repeatable


def _variables(option: Option) -> str:
    common = ["PORT"] if option.name == "bind" else []
    return ", ".join(f"``{name}``" for name in (option.variable, *option.spec.environment, *common))


class PoolOptions(_Generated):
    """Every option of a pool."""

    def lines(self) -> Iterator[str]:
        """Return them in the order in which they are declared."""
        for option in pool_table.POOL_OPTIONS.values():
            yield from _option(option)


class Overview(_Generated):
    """One table of all options, those of pools with the argument ``pool``: the name, the default, and what it is in short."""

    optional_arguments = 1

    def lines(self) -> Iterator[str]:
        """Return a table."""
        options = pool_table.POOL_OPTIONS if self.arguments else table.OPTIONS
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 26 18 56", "")
        yield from ("   * - option", "     - default", "     - in short")
        for option in options.values():
            yield f"   * - :confval:`{option.key} <{_name(option)}>`"
            yield f"     - {option.spec.default_note or _literal(cli.default_text(option))}"
            yield f"     - {_escape(_first_sentence(option.spec.help))}"
        yield ""


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.;])\s", " ".join(text.split()), maxsplit=1)[0].rstrip(";.") + "."


class Problems(_Generated):
    """Every problem id, or those that begin with the argument."""

    optional_arguments = 1

    def lines(self) -> Iterator[str]:
        """Return a definition list."""
        wanted = self.arguments[0] if self.arguments else ""
        for number, meaning in problems.CATALOGUE.items():
            if number.startswith(wanted):
                yield from (f"``djworker.{number}``", f"   {_escape(meaning)}", "")


class Atoms(_Generated):
    """Every atom of the access log's format."""

    def lines(self) -> Iterator[str]:
        """Return a definition list."""
        for name, meaning in access.ATOMS.items():
            yield from (f"``%({name})s``", f"   {_escape(meaning)}", "")


class Gunicorn(_Generated):
    """gunicorn's options, by subject, and what becomes of each."""

    def lines(self) -> Iterator[str]:
        """Return a list for each subject."""
        for subject, rows in gunicorn.TABLE.items():
            yield from (subject, "-" * len(subject), "")
            for known in rows:
                names = ", ".join(_literal(name) for name in (known.name, *known.flags))
                yield from (names, f"   **{known.fate}**{_escape(_gunicorn_note(known))}".rstrip(), "")


def _gunicorn_note(known: gunicorn.Known) -> str:
    option = table.OPTIONS.get(known.ours)
    if known.fate is gunicorn.Fate.RENAMED:
        return f" as {option.key if option else known.ours}. {known.text}"
    return f": {known.text}" if known.text else ""


def _literal(text: str) -> str:
    return f"``{text}``"


def _escape(text: str) -> str:
    for character in "\\*`|_":
        text = text.replace(character, f"\\{character}")
    return text


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("djworker-settings", Settings)
    app.add_directive("djworker-pool-options", PoolOptions)
    app.add_directive("djworker-overview", Overview)
    app.add_directive("djworker-problems", Problems)
    app.add_directive("djworker-atoms", Atoms)
    app.add_directive("djworker-gunicorn", Gunicorn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
