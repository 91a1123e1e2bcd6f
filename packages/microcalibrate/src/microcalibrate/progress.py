"""The bar that long work shows on a terminal: loss, gap and records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microcalibrate.engine.solving import Step


class ProgressBar:
    """A tqdm bar fed by the engine; made on the first step.

    Args:
        wanted: Whether to show it; None shows it on a terminal.

    Attributes:
        records: How many records the present solve works on.
    """

    def __init__(self, wanted: bool | None) -> None:
        self._disable = None if wanted is None else not wanted
        self._bar: Any = None
        self.records = 0

    def __enter__(self) -> ProgressBar:
        """Nothing is shown before the first step."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bar where it is."""
        if self._bar is not None:
            self._bar.close()

    def show(self, step: Step) -> None:
        """Show a step of the engine."""
        self._update(step.phase, loss=step.loss, gap=step.gap)

    def show_pass(self, _number: int, loss: float) -> None:
        """Show a pass of training."""
        self._update("gates", loss=loss)

    def _update(self, phase: str, **figures: float) -> None:
        if self._disable is True:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(unit=" steps", disable=self._disable)
        if self._bar.disable:
            self._disable = True
            return
        self._bar.set_description_str(phase, refresh=False)
        shown = {name: f"{value:.2e}" for name, value in figures.items()}
        self._bar.set_postfix({**shown, "records": f"{self.records:,}"}, refresh=False)
        self._bar.update()
