"""What an option is, and what a problem with one is. The options themselves stand in ``conf.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Generic, Literal, TypeVar

from djworker.values import Kind

T = TypeVar("T")
_METADATA_KEY = "djworker"


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


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table, with every name that it goes by."""

    name: str
    spec: Spec[Any]
    make_default: Callable[[], Any]

    @property
    def key(self) -> str:
        """Its key in ``settings.DJWORKER``."""
        return self.name.upper()

    @property
    def variable(self) -> str:
        """Its own environment variable; ``spec.environment`` has the common ones, which come after it."""
        return f"DJWORKER_{self.key}"

    @property
    def flag(self) -> str:
        """Its option on the command line."""
        return "--" + self.name.replace("_", "-")

    def read(self, raw: object) -> Any:  # noqa: ANN401  (a table of options of every type)
        """Read and bound a raw value. Raises BoundsError or ValueError with the remedy."""
        value = self.spec.kind.read(raw)
        low, high = self.spec.minimum, self.spec.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            raise BoundsError(self.bounds)
        return value

    def show(self, value: Any) -> str:  # noqa: ANN401
        """Write a value as the text that ``read`` takes."""
        return self.spec.kind.show(value)

    @property
    def bounds(self) -> str:
        """Its limits as words, empty without limits."""
        show = self.spec.kind.show
        low = "" if self.spec.minimum is None else f"at least {show(self.spec.minimum)}"
        high = "" if self.spec.maximum is None else f"at most {show(self.spec.maximum)}"
        return ", ".join(filter(None, (low, high)))


class BoundsError(ValueError):
    """A value that can be read lies outside its option's limits."""

    def __init__(self, bounds: str) -> None:
        super().__init__(f"out of bounds: give {bounds}")


def option(default: T | Callable[[], T], kind: Kind[T], group: str, text: str, **spec: Any) -> T:  # noqa: ANN401
    """Declare a field of Config as an option. default: a value, or a function that finds one on this machine."""
    metadata = {_METADATA_KEY: Spec(kind, group, " ".join(text.split()), **spec)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def table(config_class: type[Any]) -> Mapping[str, Option]:
    """Collect the options of a Config class by name, in the order of their declaration."""
    return {item.name: Option(item.name, item.metadata[_METADATA_KEY], _default(item)) for item in fields(config_class)}


def _default(item: Field[Any]) -> Callable[[], Any]:
    if item.default_factory is not MISSING:
        return item.default_factory
    value = item.default
    return lambda: value


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the configuration: one line that names the setting, its value, its origin and the remedy."""

    id: str
    message: str
    setting: str = ""
    value: str = ""
    source: str = ""
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        origin = f" (from {self.source})" if self.source else ""
        subject = f"{self.setting} = {self.value!r}{origin}: " if self.setting else ""
        return f"djworker.{self.id}: {subject}{self.message}"


class ConfigError(Exception):
    """The configuration cannot be used. Carries every problem found, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))
