"""``MODULE[:APP]``, as gunicorn writes it: the module to import, and the application in it.

APP is a name (``application`` where it is left out), a dotted name, or a call with literals: ``create_app("shop")``.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from djworker.conf.problems import UnreadableError

__all__ = ["ApplicationError", "Target", "looks_like_a_module"]

#: What gunicorn and Django's project template call it.
DEFAULT: Final = "application"
_MODULE: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


class ApplicationError(Exception):
    """The module is there, and the application in it is not. Its text is all there is to say: a stack would show our code."""


@dataclass(frozen=True, slots=True)
class Target:
    """[arbiter to be, mold] The application that the command line names."""

    module: str
    expression: str = DEFAULT

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``MODULE`` or ``MODULE:APP``. Raises UnreadableError with the remedy."""
        module, colon, expression = text.partition(":")
        if not _MODULE.fullmatch(module):
            raise UnreadableError(f"{module!r} is no name of a module", f"write {suggestion(module) or 'shop.wsgi'}")
        target = cls(module, expression if colon else DEFAULT)
        target._parts()
        return target

    def _parts(self) -> tuple[list[str], ast.Call | None]:
        """Return the dotted name, and the call where it is one."""
        hint = "write MODULE:NAME, or MODULE:NAME('a literal')"
        try:
            node: ast.AST = ast.parse(self.expression, mode="eval").body
        except (SyntaxError, ValueError):
            raise UnreadableError(f"{self.expression!r} is neither a name nor a call", hint) from None
        call = node if isinstance(node, ast.Call) else None
        names: list[str] = []
        node = call.func if call else node
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            raise UnreadableError(f"{self.expression!r} is neither a name nor a call", hint)
        return [node.id, *names], call

    def load(self) -> Callable[..., Any]:
        """Import the module and return the application.

        Raises:
            ApplicationError: there is no such application, or it is none of WSGI's.
            Exception: whatever the module raises.
        """
        found: Any = importlib.import_module(self.module)
        names, call = self._parts()
        for name in names:
            if not hasattr(found, name):
                raise ApplicationError(f"{self.module} has no {'.'.join(names)}{self._meant()}")
            found = getattr(found, name)
        return wsgi_callable(_called(found, call) if call else found, str(self))

    def _meant(self) -> str:
        """The remedy, where a module beside or below this one is the usual one."""
        for package in (self.module, self.module.rpartition(".")[0]):
            name = f"{package}.wsgi" if package else "wsgi"
            if name != self.module and _is_there(name):
                return f": did you mean {name}?"
        return ""

    def __str__(self) -> str:
        """Write what ``parse`` reads."""
        return f"{self.module}:{self.expression}"


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, AttributeError, ValueError):  # what it would be in is no package, or does not load
        return False


def _called(factory: Any, call: ast.Call) -> Any:
    try:
        arguments = [ast.literal_eval(item) for item in call.args]
        named = {item.arg: ast.literal_eval(item.value) for item in call.keywords if item.arg}
    except ValueError:
        raise ApplicationError(
            f"{ast.unparse(call)}: arguments of a factory are literals, such as 'shop' or 3"
        ) from None
    return factory(*arguments, **named)


def wsgi_callable(found: Any, name: str) -> Callable[..., Any]:
    """Return *found* where it can be a WSGI application. name: what to call it. Raises ApplicationError."""
    if not callable(found):
        raise ApplicationError(
            f"{name} is {type(found).__name__} {found!r:.80}, and cannot be called as a WSGI application"
        )
    if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(getattr(type(found), "__call__", None)):  # noqa: B004 - it is asked what it is
        raise ApplicationError(
            f"{name} is an ASGI application: name the WSGI one, which Django's project template has in wsgi.py"
        )
    if not _takes_two(found):
        what = getattr(found, "__name__", type(found).__name__)
        hint = "name what it returns, if it is a factory"
        raise ApplicationError(f"{name} is {what}, which does not take (environ, start_response): {hint}")
    application: Callable[..., Any] = found
    return application


def _takes_two(found: Callable[..., Any]) -> bool:
    """Whether it can be called with two arguments, as far as it can be told."""
    try:
        signature = inspect.signature(found, follow_wrapped=False)
    except Exception:  # noqa: BLE001 - C code that says nothing; annotations whose names only type checkers import (Python 3.14)
        return True
    try:
        signature.bind({}, None)
    except TypeError:
        return False
    return True


def suggestion(word: str) -> str:
    """Return the module that a path such as ``shop/wsgi.py`` means; nothing where it means none."""
    name = word.removesuffix(".py").removeprefix("./").replace("/", ".")
    return name if name != word and _MODULE.fullmatch(name) else ""


def looks_like_a_module(word: str) -> bool:
    """Whether a word of the command line is ``MODULE`` or ``MODULE:APP``, and no address."""
    module, colon, expression = word.partition(":")
    return bool(_MODULE.fullmatch(module)) and not (
        colon and (not expression.strip()[:1].isidentifier() or module in {"unix", "fd"})
    )
