"""What an option is. The options themselves stand in ``conf.table`` and ``conf.pool_table``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Final, Generic, TypeVar

from djworker.conf.kinds import Kind
from djworker.conf.problems import BoundsError

T = TypeVar("T")
_METADATA_KEY: Final = "djworker"
#: What the environment variables of our own begin with.
VARIABLE_PREFIX: Final = "DJWORKER_"


@dataclass(frozen=True, slots=True)
class Spec(Generic[T]):
    """What the table says of one option, its name and default apart."""

    kind: Kind[T]
    group: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    reloadable: bool = True
    flags: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    default_note: str = ""
    #: On the command line, where that is not its name.
    flag: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table, with every name that it goes by."""

    name: str
    spec: Spec[Any]
    make_default: Callable[[], Any]
    #: Of which kind of thing there are several, each with this option; empty where it is about the server.
    section: str = ""

    @property
    def dest(self) -> str:
        """Its name among all options, on the command line and in ``Launch.cli``."""
        return f"{self.section}_{self.name}" if self.section else self.name

    @property
    def key(self) -> str:
        """Its key in ``settings.DJWORKER``; for an option of a section, in the dict there."""
        return self.name if self.section else self.name.upper()

    @property
    def title(self) -> str:
        """What messages and the documentation call it."""
        return f"{self.section.upper()}.{self.name}" if self.section else self.name

    @property
    def variable(self) -> str:
        """Its own environment variable; ``spec.environment`` has the common ones, which come after it."""
        return f"{VARIABLE_PREFIX}{self.dest.upper()}"

    @property
    def flag(self) -> str:
        """Its option on the command line."""
        return self.spec.flag or "--" + self.dest.replace("_", "-")

    @property
    def flags(self) -> tuple[str, ...]:
        """Every option on the command line that means it: the short one, its own, then others' names for it."""
        short = tuple(name for name in self.spec.flags if not name.startswith("--"))
        return (*short, self.flag, *(name for name in self.spec.flags if name.startswith("--")))

    def read(self, raw: object) -> Any:
        """Read and bound a raw value. Raises UnreadableError with the remedy."""
        value = self.spec.kind.read(raw)
        low, high = self.spec.minimum, self.spec.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            raise BoundsError("out of bounds", f"give {self.bounds}")
        return value

    def show(self, value: Any) -> str:
        """Write a value as the text that ``read`` takes."""
        return self.spec.kind.show(value)

    @property
    def bounds(self) -> str:
        """Its limits as words, empty without limits."""
        low, high = self.spec.minimum, self.spec.maximum
        if low is None:
            return "" if high is None else f"at most {self.show(high)}"
        return f"at least {self.show(low)}" if high is None else f"{self.show(low)} to {self.show(high)}"


def option(default: T | Callable[[], T], kind: Kind[T], group: str, text: str, **spec: Any) -> T:
    """Declare a field of a table's class as an option.

    Args:
        default: a value, or a function that finds one on this machine.
        kind: how it is read and shown.
        group: the heading that it stands under.
        text: what it does, for the reference and ``--help``.
        spec: the other fields of ``Spec``.
    """
    metadata = {_METADATA_KEY: Spec(kind, group, " ".join(text.split()), **spec)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def table(table_class: type[Any], section: str = "") -> Mapping[str, Option]:
    """Collect the options that a class declares by name, in the order of their declaration. section: as in ``Option``."""
    return {
        item.name: Option(item.name, item.metadata[_METADATA_KEY], _default(item), section)
        for item in fields(table_class)
    }


def _default(item: Field[Any]) -> Callable[[], Any]:
    if item.default_factory is not MISSING:
        return item.default_factory
    value = item.default
    return lambda: value
