"""A bar of the rounds of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class bar_of_rounds:  # noqa: N801  (used as a function)
    """A bar of rounds, made only where it is shown."""

    def __init__(self, wanted: bool | None, n_rounds: int, done: int) -> None:
        self._wanted, self._n_rounds, self._done = wanted, n_rounds, done

    def __enter__(self) -> Callable[[int], None]:
        """Show it; what is returned moves it on by a round."""
        self._shown: Any = None
        if self._wanted is not False and self._n_rounds:
            from tqdm import tqdm

            self._shown = tqdm(
                total=self._n_rounds,
                initial=self._done,
                unit=" rounds",
                desc="regularise",
                disable=None if self._wanted is None else False,
            )
        return self._advance

    def _advance(self, n_flagged: int) -> None:
        if self._shown is not None:
            self._shown.set_postfix({"flagged": f"{n_flagged:,}"}, refresh=False)
            self._shown.update()

    def __exit__(self, *error: object) -> None:
        """Leave it as it stands."""
        if self._shown is not None:
            self._shown.close()
