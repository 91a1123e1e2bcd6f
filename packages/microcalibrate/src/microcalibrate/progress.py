"""How far long work has come: a bar on a terminal, and the same figures to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from microcalibrate.engine.loop import Step


WRITING = "writing"
"""The activity of a command that is writing what it found."""


@dataclass(frozen=True)
class Update:
    """How far one activity has come.

    Attributes:
        activity: What is going on: "dense", "refit", "gates", "trials", "folds", "reforms",
            "rounds" or "training"; at the end "writing", when there is nothing to cancel any more.
        done: How much of it is done, in units.
        total: How much there is to do, or None where nobody knows.
        unit: What is counted, in the plural.
        figures: What else is known by now, by name: loss, gap, records and the like.
    """

    activity: str
    done: int
    total: int | None
    unit: str
    figures: dict[str, float] = field(default_factory=dict)


Sink: TypeAlias = Callable[[Update], None]

_SINK: ContextVar[Sink | None] = ContextVar("microcalibrate_progress", default=None)


@contextmanager
def listening(sink: Sink) -> Iterator[None]:
    """Hand every update to `sink`, whether or not a bar is shown.

    Args:
        sink: Called with each update of this thread, in the middle of the work. It may raise
            `KeyboardInterrupt`, which cancels the work as Ctrl-C does.

    Examples:
        >>> from microcalibrate import Calibration
        >>> told = []
        >>> with listening(told.append):
        ...     weights = Calibration([1.0, 1.0], [4.0], [[1.0], [1.0]]).calibrate()
        >>> told[-1].activity, told[-1].unit
        ('dense', 'steps')
    """
    former = _SINK.set(sink)
    try:
        yield
    finally:
        _SINK.reset(former)


def tell(
    activity: str, done: int, total: int | None, unit: str, figures: Mapping[str, float]
) -> None:
    """Send one update to whoever listens.

    Raises:
        KeyboardInterrupt: If whoever listens wants the work to end.
    """
    sink = _SINK.get()
    if sink is not None:
        sink(Update(activity, done, total, unit, {k: float(v) for k, v in figures.items()}))


class Bar:
    """Counted work: a tqdm bar, and an update for whoever listens.

    Args:
        wanted: Whether to show it; None shows it on a terminal.
        activity: What is counted; see `Update`.
        unit: In the plural.
        total: How much there is to do, if that is known.
        done: How much was done before.
        label: What stands before the bar; the activity where not given.
        formats: How figures look on the bar, by name; those that are not listed are left out.
        leave: Whether the bar stays on the terminal when the work is done.
    """

    def __init__(
        self,
        wanted: bool | None,
        activity: str,
        unit: str,
        *,
        total: int | None = None,
        done: int = 0,
        label: str | None = None,
        formats: Mapping[str, str] | None = None,
        leave: bool = True,
    ) -> None:
        self._activity, self._unit, self._total, self._done = activity, unit, total, done
        self._formats = formats or {}
        self._terminal = _Terminal(
            wanted, total=total, initial=done, unit=unit, desc=label or activity, leave=leave
        )

    def __enter__(self) -> Bar:
        """Show it, and tell where it begins."""
        self._terminal.open()
        tell(self._activity, self._done, self._total, self._unit, {})
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bar as it stands."""
        self._terminal.close()

    @property
    def is_watched(self) -> bool:
        """Whether anyone would see an update, so that its figures are worth computing."""
        return self._terminal.is_shown or _SINK.get() is not None

    def to(self, done: int, **figures: float) -> None:
        """Move on to so much done.

        Raises:
            KeyboardInterrupt: If whoever listens wants the work to end.
        """
        self._done = done
        if self._terminal.is_shown:
            shown = {
                name.replace("_", " "): format(figures[name], how)
                for name, how in self._formats.items()
                if name in figures
            }
            self._terminal.to(done, shown)
        tell(self._activity, done, self._total, self._unit, figures)

    def advance(self, **figures: float) -> None:
        """Move on by one; see `to`."""
        self.to(self._done + 1, **figures)


class ProgressBar:
    """A bar fed by the engine; made on the first step.

    Args:
        wanted: Whether to show it; None shows it on a terminal.

    Attributes:
        records: How many records the present solve works on.
    """

    def __init__(self, wanted: bool | None) -> None:
        self._terminal = _Terminal(wanted, unit="steps")
        self._n_shown = 0
        self.records = 0

    def __enter__(self) -> ProgressBar:
        """Nothing is shown before the first step."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bar where it is."""
        self._terminal.close()

    def show(self, step: Step) -> None:
        """Show a step of the engine."""
        self._update(step.phase, step.step, None, "steps", loss=step.loss, gap=step.gap)

    def show_pass(self, number: int, loss: float, total: int | None = None) -> None:
        """Show a pass of training."""
        self._update("gates", number, total, "passes", loss=loss)

    def _update(
        self, phase: str, done: int, total: int | None, unit: str, **figures: float
    ) -> None:
        self._terminal.open()
        if self._terminal.is_shown:
            self._n_shown += 1
            shown = {name: f"{value:.2e}" for name, value in figures.items()}
            shown["records"] = f"{self.records:,}"
            self._terminal.to(self._n_shown, shown, phase)
        tell(phase, done, total, unit, {**figures, "records": self.records})


class _Terminal:
    """The only place that knows tqdm: a bar that is made when it is first needed, if at all."""

    def __init__(self, wanted: bool | None, *, unit: str, **about: Any) -> None:
        self._wanted = wanted
        self._about = {**about, "unit": f" {unit}"}
        self._bar: Any = None

    @property
    def is_shown(self) -> bool:
        return self._bar is not None

    def open(self) -> None:
        if self._bar is not None or self._wanted is False:
            return
        from tqdm import tqdm

        # None lets tqdm find out whether this is a terminal.
        bar = tqdm(disable=None if self._wanted is None else False, **self._about)
        if bar.disable:
            self._wanted = False
        else:
            self._bar = bar

    def to(self, done: int, figures: Mapping[str, str], label: str | None = None) -> None:
        if label is not None:
            self._bar.set_description_str(label, refresh=False)
        self._bar.set_postfix(figures, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
