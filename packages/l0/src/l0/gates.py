"""Gates over a data set: choose samples, features, or a learned part and a random part of them.

Every selection has an exact count and may have wishes (`l0.selection.Wishes`): items to keep,
groups of items that are taken or left together, quotas of strata.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from l0 import selection
from l0.base_gate import Data, L0Gate
from l0.errors import InvalidSetting
from l0.selection import Indices
from l0.selection.items import check_items
from l0.selection.quotas import Bundles, Wishes

__all__ = ["FeatureGate", "HybridGate", "L0Gate", "SampleGate"]


class SampleGate(L0Gate):
    """Chooses exactly `target_samples` rows of a data set.

    Args:
        n_samples: Number of rows in the data.
        target_samples: How many of them to select.
        **settings: Settings of the gates, as in `L0Gate`.

    Raises:
        InvalidCount: If `target_samples` is not in `[0, n_samples]`.

    Examples:
        >>> gate = SampleGate(n_samples=10_000, target_samples=1_000)
        >>> rows, indices = gate.select_samples(np.zeros((10_000, 3)))
        >>> rows.shape, indices.shape
        ((1000, 3), (1000,))
    """

    def __init__(self, n_samples: int, target_samples: int, **settings: Any) -> None:
        super().__init__(n_samples, target_samples, **settings)

    def select_samples(
        self, data: Data, *, seed: selection.Rng = 0, **wishes: Unpack[Wishes]
    ) -> tuple[Data, Indices]:
        """The rows most likely to be active, exactly `target_samples` of them.

        Ties, such as those of gates before training, are broken evenly over the data. In
        training mode, a floating tensor comes out with the same values, and carries the gradient
        of the expected gate of each selected row; so a loss on it trains the logits. To train
        all gates in each step, also those not selected, use `gate(data)`.

        Args:
            data: A tensor, an array, a pandas or polars DataFrame or a SciPy sparse matrix with
                `n_samples` rows.
            seed: Generator or seed, used only to break ties.
            **wishes: Must-keep rows, groups and quotas, as in `l0.selection.Wishes`.

        Returns:
            The selected rows, of the type of `data` and in its order, and their positions as a
            NumPy array of `int64`.

        Raises:
            ShapeMismatch: If the data have another number of rows.
            UnsupportedData: If rows cannot be taken from the data.
            InvalidCount: If the wishes contradict each other or the count.

        Examples:
            >>> gate = SampleGate(6, 3, init_mean=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
            >>> gate.select_samples(np.arange(6), strata=list("aaabbb"), quotas={"b": 2})[1]
            array([0, 3, 4])
        """
        return self._select(data, seed, wishes)


class FeatureGate(L0Gate):
    """Chooses exactly `max_features` columns of a data set.

    Args:
        n_features: Number of columns in the data; of a tensor, the size of its last axis.
        max_features: How many of them to select.
        **settings: Settings of the gates, as in `L0Gate`.

    Raises:
        InvalidCount: If `max_features` is not in `[0, n_features]`.

    Examples:
        >>> gate = FeatureGate(n_features=1000, max_features=50)
        >>> columns, indices = gate.select_features(torch.zeros(8, 1000))
        >>> columns.shape
        torch.Size([8, 50])
    """

    item_axis: ClassVar[int] = -1

    def __init__(self, n_features: int, max_features: int, **settings: Any) -> None:
        super().__init__(n_features, max_features, **settings)

    def select_features(
        self, data: Data, *, seed: selection.Rng = 0, **wishes: Unpack[Wishes]
    ) -> tuple[Data, Indices]:
        """The columns most likely to be active, exactly `max_features` of them.

        Ties and gradients are as in `SampleGate.select_samples`.

        Args:
            data: As in `SampleGate.select_samples`, with `n_features` columns.
            seed: Generator or seed, used only to break ties.
            **wishes: Must-keep columns, groups and quotas, as in `l0.selection.Wishes`.

        Returns:
            The selected columns, of the type of `data` and in its order, and their positions as
            a NumPy array of `int64`.

        Raises:
            ShapeMismatch: If the data have another number of columns.
            UnsupportedData: If columns cannot be taken from the data.
            InvalidCount: If the wishes contradict each other or the count.
        """
        return self._select(data, seed, wishes)

    def get_feature_importance(self) -> Tensor:
        """Chance of each feature's gate not to be zero, without a gradient.

        Returns:
            Probabilities, shape `(n_features,)`.

        Examples:
            >>> FeatureGate(4, 2).get_feature_importance().round(decimals=3)
            tensor([0.5000, 0.5000, 0.5000, 0.5000])
        """
        return self.prob_active().detach()


class HybridGate(L0Gate):
    """Chooses exactly `target_items` rows: one part by the gates, the rest at random.

    The random part is a simple random sample of the rows that the gates leave. So each row has
    a known chance to be selected, and weights by Horvitz and Thompson are valid.

    Args:
        n_items: Number of rows in the data.
        l0_fraction: Share of the selection that the gates choose, rounded to whole rows.
        random_fraction: Share that is drawn at random; the two sum to 1.
        target_items: How many rows to select in all.
        **settings: Settings of the gates, as in `L0Gate`.

    Raises:
        InvalidCount: If `target_items` is not in `[0, n_items]`.
        InvalidSetting: If a fraction is not in `[0, 1]`, or the two do not sum to 1.

    Examples:
        >>> hybrid = HybridGate(10_000, l0_fraction=0.25, random_fraction=0.75, target_items=1000)
        >>> rows, indices, types = hybrid.select(np.zeros((10_000, 3)))
        >>> rows.shape, int((types == "l0").sum()), int((types == "random").sum())
        ((1000, 3), 250, 750)
    """

    def __init__(
        self,
        n_items: int,
        l0_fraction: float,
        random_fraction: float,
        target_items: int,
        **settings: Any,
    ) -> None:
        for name, value in {"l0_fraction": l0_fraction, "random_fraction": random_fraction}.items():
            if not 0 <= value <= 1:
                raise InvalidSetting(f"`{name}` is {value}, but must be in [0, 1], not percent.")
        if abs(l0_fraction + random_fraction - 1) > 1e-6:
            raise InvalidSetting(
                f"`l0_fraction` {l0_fraction} and `random_fraction` {random_fraction} sum to "
                f"{l0_fraction + random_fraction:g}, but must sum to 1."
            )
        n_l0 = int(l0_fraction * target_items + 0.5)
        settings.setdefault("init_mean", n_l0 / max(n_items, 1))
        super().__init__(n_items, target_items, **settings)
        self.n_l0 = n_l0
        self.n_random = target_items - n_l0

    def select(
        self,
        data: Data,
        *,
        generator: np.random.Generator | torch.Generator | None = None,
        seed: int | None = None,
        **wishes: Unpack[Wishes],
    ) -> tuple[Data, Indices, NDArray[np.str_]]:
        """Exactly `target_items` rows, and how each of them was chosen.

        The same rows at each call, unless a generator or a seed says otherwise; it changes the
        random part only. Gradients are as in `SampleGate.select_samples`.

        Args:
            data: As in `SampleGate.select_samples`, with `n_items` rows.
            generator: Source of the random part; of NumPy or of PyTorch.
            seed: Seed of the random part, 0 if neither is given; give one of the two.
            **wishes: Must-keep rows, which count as chosen by the gates; quotas of the whole
                selection, exact ones, which both parts share in proportion; and groups, if counted
                as groups, as in `l0.selection.Wishes`.

        Returns:
            The selected rows, of the type of `data` and in its order; their positions as a NumPy
            array of `int64`; and `"l0"` or `"random"` for each.

        Raises:
            ShapeMismatch: If the data have another number of rows.
            UnsupportedData: If rows cannot be taken from the data.
            InvalidSetting: If both `generator` and `seed` are given, or a wish leaves the chance of
                a row unknown: a quota with two ends, or groups whose items are counted.
            InvalidCount: If the wishes contradict each other or the count.
        """
        if generator is not None and seed is not None:
            raise InvalidSetting("`generator` and `seed` are both given. Give one of the two.")
        check_items(data, self.n_items, self.item_axis)
        rng = np.random.default_rng(seed or 0) if generator is None else _as_numpy(generator)
        bundles, by_gate, left = self._plan(wishes)
        others = np.setdiff1d(np.arange(bundles.size.size), by_gate, assume_unique=True)
        at_random = [
            part[selection.simple_random(part.size, count, rng)]
            for part, count in zip(bundles.parts(others), left.tolist(), strict=True)
        ]

        indices = bundles.items(np.concatenate([by_gate, *at_random]))
        types = np.where(np.isin(bundles.of_item[indices], by_gate), "l0", "random")
        return self._taken(data, indices), indices, types

    def inclusion_probabilities(self, **wishes: Unpack[Wishes]) -> NDArray[np.float64]:
        """Chance of each row to be selected, given the gates; their inverses are design weights.

        Args:
            **wishes: As in `select`.

        Returns:
            1 for the rows that the gates choose, and the sampling fraction of the random part
            of its stratum for any other; shape `(n_items,)`, summing to `target_items`.

        Examples:
            >>> hybrid = HybridGate(5, l0_fraction=0.5, random_fraction=0.5, target_items=2)
            >>> sorted(hybrid.inclusion_probabilities().tolist())
            [0.25, 0.25, 0.25, 0.25, 1.0]
        """
        bundles, by_gate, left = self._plan(wishes)
        probabilities = np.ones(bundles.size.size)
        others = np.setdiff1d(np.arange(probabilities.size), by_gate, assume_unique=True)
        for part, count in zip(bundles.parts(others), left.tolist(), strict=True):
            probabilities[part] = count / max(part.size, 1)
        return probabilities[bundles.of_item]

    def _plan(self, wishes: Wishes) -> tuple[Bundles, Indices, Indices]:
        """What is taken as one, which the gates choose, and how many of each stratum are left."""
        bundles, left = Bundles.of(self.n_items, **wishes).divided(self.n_selected, self.n_l0)
        return bundles, bundles.best(bundles.total(self._logits()), self.n_l0), left


def _as_numpy(generator: np.random.Generator | torch.Generator) -> np.random.Generator:
    if isinstance(generator, np.random.Generator):
        return generator
    # One number from the given stream seeds the draw, so that the stream moves on.
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return np.random.default_rng(int(seed))
