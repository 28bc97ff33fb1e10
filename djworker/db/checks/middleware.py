"""Which middleware reaches through Django's connection to the library's: a lease that is looked behind is pinned."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import TYPE_CHECKING, Final

from django.utils.module_loading import import_string

from djworker.db.lease.raw_names import FREE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_MODE: Final = "autocommit"  # set to what it is, or refused


def pinning(paths: Iterable[str]) -> Iterator[str]:
    """Those of these dotted names whose code does it: it runs in every request, so that every request is pinned."""
    for path in paths:
        try:
            pins = reaches_through(inspect.getsource(import_string(path)))
        except (ImportError, OSError, TypeError):
            continue  # what cannot be imported is Django's to complain of; what has no source is not Python
        except SyntaxError:
            continue  # a lambda's source is a piece of a line; text at the margin keeps an inner function from being dedented
        if pins:
            yield path


def reaches_through(source: str) -> bool:
    """Whether the code does more with `connection.connection` than a lease allows for nothing."""
    tree = ast.parse(textwrap.dedent(source))
    free = {id(node) for parent in ast.walk(tree) for node in _for_nothing(parent, FREE)}
    return any(_is_library(node) and id(node) not in free for node in ast.walk(tree))


def _for_nothing(node: ast.AST, readable: Collection[str]) -> list[ast.AST]:
    """What stands below the node, where the node itself pins nothing."""
    if (
        isinstance(node, ast.Attribute)
        and node.attr in readable
        and (isinstance(node.ctx, ast.Load) or node.attr == _MODE)
    ):
        return [node.value]
    if isinstance(node, ast.Compare) and all(isinstance(operator, ast.Is | ast.IsNot) for operator in node.ops):
        return [node.left]
    return []


def _is_library(node: ast.AST) -> bool:
    """`connection.connection`, `db.connection.connection` or `connections[alias].connection`."""
    if not isinstance(node, ast.Attribute) or node.attr != "connection":
        return False
    match node.value:
        case ast.Name(id="connection") | ast.Attribute(attr="connection"):
            return True
        case ast.Subscript(value=ast.Name(id="connections") | ast.Attribute(attr="connections")):
            return True
    return False
