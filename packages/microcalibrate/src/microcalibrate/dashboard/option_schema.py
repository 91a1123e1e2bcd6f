"""The options of a command as plain values, read from the command itself.

A form made from them has every option that the command line has, with the same words; an option
that is added to a command shows up by itself.
"""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from typer.models import OptionInfo

from microcalibrate.errors import InvalidOption

# The end of a help text that says what stands in for an option that is not given.
_DEFAULT = re.compile(r"\s*\[([^\]]*)\]\s*$")
_CHOICE = re.compile(r"[a-z0-9_-]+(\|[a-z0-9_-]+)+")


class Kind(Enum):
    """What an option takes."""

    NUMBER = "a number"
    WHOLE = "a whole number"
    SWITCH = "yes or no"
    CHOICE = "one of its choices"
    COLUMN = "a column of the data"
    TEXT = "a text"


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes:
        name: Of the command's argument, as in `max_ratio`.
        flag: On the command line, as in `--max-ratio`.
        off_flag: What turns a switch off, or empty.
        label: What people read beside the field.
        help: What it does.
        standard: What stands in where it is not given, in words.
        kind: What it takes.
        choices: Of a choice.
        is_open: Whether a choice may be followed by more, as in `huber:0.1`.
        default: Value where it is not given; None where the library chooses.
        least: Smallest value of a number, or None.
        greatest: Greatest value of a number, or None.
        count: How many values it takes: 1, or another number of them; 0 for as many as one likes.
    """

    name: str
    flag: str
    off_flag: str
    label: str
    help: str
    standard: str
    kind: Kind
    choices: tuple[str, ...]
    is_open: bool
    default: Any
    least: float | None
    greatest: float | None
    count: int = 1

    def read_all(self, text: str) -> list[float | int] | None:
        """The numbers in what someone wrote, between blanks or semicolons; None for nothing.

        Raises:
            InvalidOption: If one is none or out of its range, or there are too few or too many.

        Examples:
            >>> tuned = options_of("tune")
            >>> tuned["closeness"].read_all("1e-4; 1e-3"), tuned["kappa_range"].read_all(" ")
            ([0.0001, 0.001], None)
        """
        numbers = [self.read(part) for part in text.replace(";", " ").split()]
        found = [number for number in numbers if number is not None]
        if found and self.count and len(found) != self.count:
            raise InvalidOption(
                f"{self.label}: {self.count} numbers are needed, with a blank between them, and "
                f"“{text.strip()}” has {len(found)}."
            )
        return found or None

    def read(self, text: str) -> float | int | None:
        """The number in what someone wrote; None where nothing is written.

        Raises:
            InvalidOption: If it is none, or out of its range.

        Examples:
            >>> records = options_of("calibrate")["records"]
            >>> records.read(" 20,000 "), records.read("")
            (20000, None)
        """
        written = text.strip().replace(",", "").replace("−", "-").replace("\u202f", "")
        if not written:
            return None
        number: float
        try:
            number = int(written) if self.kind is Kind.WHOLE else float(written)
        except ValueError:
            raise InvalidOption(
                f"{self.label}: “{text.strip()}” is not {self.kind.value}."
            ) from None
        if math.isnan(number):
            raise InvalidOption(f"{self.label}: “{text.strip()}” is not {self.kind.value}.")
        if self.least is not None and number < self.least:
            raise InvalidOption(f"{self.label}: must be {self.least:g} or more.")
        if self.greatest is not None and number > self.greatest:
            raise InvalidOption(f"{self.label}: must be {self.greatest:g} or less.")
        return number

    def arguments(self, value: Any) -> list[str]:
        """What the command line has to say for a value; nothing for the default."""
        if value is None or value == self.default:
            return []
        if self.kind is Kind.SWITCH:
            return [self.flag if value else self.off_flag]
        if self.count == 1:
            return [self.flag, str(value)]
        if self.count:
            return [self.flag, *map(str, value)]
        return [part for each in value for part in (self.flag, str(each))]


def options_of(command: str) -> dict[str, Option]:
    """Options of a command of microcalibrate, in the order of its help page.

    Args:
        command: Its name, such as "calibrate".

    Returns:
        Name of the argument to option. Files and folders are left out: the page provides them.

    Raises:
        InvalidOption: If there is no such command.

    Examples:
        >>> options = options_of("calibrate")
        >>> options["loss"].choices[:2], options["max_ratio"].standard
        (('squared', 'absolute'), 'none')
    """
    function = _function(command)
    hints = typing.get_type_hints(function, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        declared = typing.get_args(hints[name])
        information = declared[-1] if declared else None
        taken, count = _taken(declared[0]) if declared else (None, 1)
        if isinstance(information, OptionInfo) and taken is not None:
            found[name] = _option(name, taken, count, information, parameter.default)
    return found


def arguments(options: Mapping[str, Option], values: Mapping[str, Any]) -> list[str]:
    """Values as arguments of the command line; those that are defaults are left out.

    Examples:
        >>> arguments(options_of("calibrate"), {"records": 2000, "seed": None, "max_iter": 1000})
        ['--records', '2000']
    """
    return [part for name, value in values.items() for part in options[name].arguments(value)]


def _function(command: str) -> Callable[..., Any]:
    from microcalibrate.cli import app

    for registered in app.registered_commands:
        function = registered.callback
        if (
            function is not None
            and (registered.name or function.__name__.replace("_", "-")) == command
        ):
            return function
    raise InvalidOption(f"there is no command {command!r}.")


def _taken(annotation: Any) -> tuple[type | None, int]:
    """The plain type that an annotation asks for, None for files; and how many of it."""
    if isinstance(annotation, types.UnionType):
        kinds = [each for each in typing.get_args(annotation) if each is not type(None)]
        annotation = kinds[0] if len(kinds) == 1 else None
    count = 1
    if typing.get_origin(annotation) in (list, tuple):
        parts = typing.get_args(annotation)
        count = len(parts) if typing.get_origin(annotation) is tuple else 0
        annotation = parts[0]
    return (annotation if annotation in (bool, int, float, str) else None), count


def _option(name: str, taken: type, count: int, information: OptionInfo, default: Any) -> Option:
    # In an annotation, the first name of an option stands where its default would.
    named = [information.default, *(information.param_decls or ())]
    flag, off_flag = _flags(name, taken, [each for each in named if isinstance(each, str)])
    words = " ".join((information.help or "").split())
    standard = _DEFAULT.search(words)
    choices: Sequence[str] = ()
    if taken is str and information.metavar and _CHOICE.fullmatch(information.metavar):
        choices = information.metavar.split("|")
    kinds = {bool: Kind.SWITCH, int: Kind.WHOLE, float: Kind.NUMBER, str: Kind.TEXT}
    kind = Kind.CHOICE if choices else kinds[taken]
    if taken is str and information.metavar == "COLUMN":
        kind = Kind.COLUMN
    return Option(
        name=name,
        flag=flag,
        off_flag=off_flag,
        label=flag.removeprefix("--").replace("-", " ").capitalize(),
        help=_DEFAULT.sub("", words),
        standard=standard[1] if standard else ("" if default is None else str(default)),
        kind=kind,
        choices=tuple(choices),
        is_open=any(f"{choice}:" in words for choice in choices),
        default=default,
        least=information.min,
        greatest=information.max,
        count=count,
    )


def _flags(name: str, taken: type, declared: Sequence[str]) -> tuple[str, str]:
    given = [each for each in declared if each.startswith("--")]
    if given:
        on, _, off = given[0].partition("/")
        return on, off
    flag = f"--{name.replace('_', '-')}"
    return flag, f"--no-{name.replace('_', '-')}" if taken is bool else ""
