"""Gates over a data set: choose samples, features, or a learned part and a random part of them."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from l0 import selection
from l0.errors import InvalidCount, InvalidSetting, ShapeMismatch, UnsupportedData
from l0.hard_concrete import LIMITS, TEMPERATURE, HardConcrete, Limits
from l0.selection import Indices

Data = TypeVar("Data")


class L0Gate(nn.Module):
    """A Hard Concrete gate per item of a data set: what the gates of this module share.

    Calling the gate multiplies data by it; that is how it is trained. `select…` takes exactly
    as many items as were asked for, the most likely ones, in training mode and outside.

    Args:
        n_items: Number of items in the data.
        n_selected: How many of them to select.
        temperature: Of the gates.
        init_mean: `P(gate > 0)` at the start; the share to select if not given.
        limits: Of the gates.
        generator: Source of the noise in training mode; PyTorch's global generator if None.
        seed: Makes a generator; give one of the two.
        device: Where the logits live.
        dtype: Their type.

    Raises:
        InvalidCount: If `n_selected` is not in `[0, n_items]`.
        InvalidSetting: If a setting of the gates is out of range.
    """

    item_axis: ClassVar[int] = 0
    """The axis of the data along which the items lie."""

    def __init__(
        self,
        n_items: int,
        n_selected: int,
        *,
        temperature: float = TEMPERATURE,
        init_mean: ArrayLike | Tensor | None = None,
        limits: Limits = LIMITS,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= n_selected <= n_items:
            raise InvalidCount(
                f"{n_selected} of {n_items} items are asked for. Ask for 0 to {n_items}."
            )
        self.n_items = n_items
        self.n_selected = n_selected
        self.hard_concrete = HardConcrete(
            n_items,
            temperature=temperature,
            init_mean=n_selected / max(n_items, 1) if init_mean is None else init_mean,
            limits=limits,
            generator=generator,
            seed=seed,
            device=device,
            dtype=dtype,
        )

    @property
    def log_alpha(self) -> nn.Parameter:
        """The logits, shape `(n_items,)`."""
        return self.hard_concrete.log_alpha

    def prob_active(self) -> Tensor:
        """Chance of each item's gate not to be zero."""
        return self.hard_concrete.prob_active()

    def mean(self) -> Tensor:
        """Expected gate of each item."""
        return self.hard_concrete.mean()

    def variance(self) -> Tensor:
        """Variance of each item's gate."""
        return self.hard_concrete.variance()

    def penalty(self) -> Tensor:
        """Expected number of items whose gate is not zero; differentiable."""
        return self.hard_concrete.penalty()

    def forward(self, data: Tensor | None = None) -> Tensor:
        """Data times their gates, or the gates alone.

        In training mode the gates are a random draw, and the gradient reaches the logits of all
        gates that are neither 0 nor 1 in this draw. In evaluation mode they are median gates.

        Args:
            data: A tensor with `n_items` along `item_axis`.

        Returns:
            A tensor of the shape of `data`, or of shape `(n_items,)` without data.

        Raises:
            ShapeMismatch: If the data have another number of items.
            UnsupportedData: If the data are not a tensor.
        """
        z: Tensor = self.hard_concrete()
        if data is None:
            return z
        if not isinstance(data, Tensor):
            raise UnsupportedData(
                f"gates multiply tensors, not {type(data).__name__}. Convert the numbers with "
                "torch.as_tensor(...), or take whole rows or columns by selecting."
            )
        self._check_items(data)
        return data * self._along_items(z, data)

    def _take(self, data: Data, indices: Indices) -> Data:
        """The items at `indices`, of the type of `data`; see `SampleGate.select_samples`."""
        self._check_items(data)
        axis = self.item_axis % len(data.shape)  # type: ignore[attr-defined]  # checked above
        key = indices if axis == 0 else (*[slice(None)] * axis, indices)
        # pandas takes positions through `iloc`; some sparse formats cannot take any.
        view: Any = data
        if hasattr(data, "iloc"):
            view = data.iloc
        elif hasattr(data, "tocsr"):
            view = data.tocsr()
        taken = view[key]
        if not (self.training and isinstance(taken, Tensor) and taken.is_floating_point()):
            return cast("Data", taken)
        # Note [Gradient without change]: the factor is exactly 1, so the selected data stay as
        # they are, but its gradient is that of the expected gate, which is never zero.
        expected = self.mean()[indices]
        factor = 1 + (expected - expected.detach())
        return cast("Data", taken * self._along_items(factor, taken).to(taken.dtype))

    def _along_items(self, per_item: Tensor, data: Tensor) -> Tensor:
        shape = [1] * data.ndim
        shape[self.item_axis] = -1
        return per_item.view(shape)

    def _check_items(self, data: Any) -> None:
        shape = getattr(data, "shape", None)
        if not isinstance(shape, tuple) or not hasattr(data, "__getitem__"):
            raise UnsupportedData(
                f"cannot take items from {type(data).__name__}. Give a tensor, a NumPy array, a "
                "pandas or polars DataFrame, or a SciPy sparse matrix; np.asarray(...) makes an "
                "array of a list, and .collect() a DataFrame of a lazy one."
            )
        if not shape or shape[self.item_axis] != self.n_items:
            raise ShapeMismatch(
                f"data of shape {tuple(shape)} do not have {self.n_items} items along axis "
                f"{self.item_axis}. Make the gate for the data that it selects from."
            )


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

    def select_samples(self, data: Data, *, seed: selection.Rng = 0) -> tuple[Data, Indices]:
        """The rows most likely to be active, exactly `target_samples` of them.

        Ties, such as those of gates before training, are broken evenly over the data. In
        training mode, a floating tensor comes out with the same values, and carries the gradient
        of the expected gate of each selected row; so a loss on it trains the logits. To train
        all gates in each step, also those not selected, use `gate(data)`.

        Args:
            data: A tensor, an array, a pandas or polars DataFrame or a SciPy sparse matrix with
                `n_samples` rows.
            seed: Generator or seed, used only to break ties.

        Returns:
            The selected rows, of the type of `data` and in its order, and their positions as a
            NumPy array of `int64`.

        Raises:
            ShapeMismatch: If the data have another number of rows.
            UnsupportedData: If rows cannot be taken from the data.
        """
        indices = self.hard_concrete.select(self.n_selected, seed)
        return self._take(data, indices), indices


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

    def select_features(self, data: Data, *, seed: selection.Rng = 0) -> tuple[Data, Indices]:
        """The columns most likely to be active, exactly `max_features` of them.

        Ties and gradients are as in `SampleGate.select_samples`.

        Args:
            data: As in `SampleGate.select_samples`, with `n_features` columns.
            seed: Generator or seed, used only to break ties.

        Returns:
            The selected columns, of the type of `data` and in its order, and their positions as
            a NumPy array of `int64`.

        Raises:
            ShapeMismatch: If the data have another number of columns.
            UnsupportedData: If columns cannot be taken from the data.
        """
        indices = self.hard_concrete.select(self.n_selected, seed)
        return self._take(data, indices), indices

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
    ) -> tuple[Data, Indices, NDArray[np.str_]]:
        """Exactly `target_items` rows, and how each of them was chosen.

        The same rows at each call, unless a generator or a seed says otherwise; it changes the
        random part only. Gradients are as in `SampleGate.select_samples`.

        Args:
            data: As in `SampleGate.select_samples`, with `n_items` rows.
            generator: Source of the random part; of NumPy or of PyTorch.
            seed: Seed of the random part, 0 if neither is given; give one of the two.

        Returns:
            The selected rows, of the type of `data` and in its order; their positions as a NumPy
            array of `int64`; and `"l0"` or `"random"` for each.

        Raises:
            ShapeMismatch: If the data have another number of rows.
            UnsupportedData: If rows cannot be taken from the data.
            InvalidSetting: If both `generator` and `seed` are given.
        """
        if generator is not None and seed is not None:
            raise InvalidSetting("`generator` and `seed` are both given. Give one of the two.")
        rng = np.random.default_rng(seed or 0) if generator is None else _as_numpy(generator)
        by_gate = self.hard_concrete.select(self.n_l0)
        others = np.setdiff1d(np.arange(self.n_items), by_gate, assume_unique=True)
        at_random = others[selection.simple_random(others.size, self.n_random, rng)]

        indices = np.concatenate([by_gate, at_random])
        types = np.repeat(["l0", "random"], [self.n_l0, self.n_random])
        order = np.argsort(indices)
        return self._take(data, indices[order]), indices[order], types[order]

    def inclusion_probabilities(self) -> NDArray[np.float64]:
        """Chance of each row to be selected, given the gates; their inverses are design weights.

        Returns:
            1 for the rows that the gates choose, and the sampling fraction of the random part
            for all others; shape `(n_items,)`, summing to `target_items`.

        Examples:
            >>> hybrid = HybridGate(5, l0_fraction=0.5, random_fraction=0.5, target_items=2)
            >>> sorted(hybrid.inclusion_probabilities().tolist())
            [0.25, 0.25, 0.25, 0.25, 1.0]
        """
        n_others = self.n_items - self.n_l0
        probabilities = np.full(self.n_items, self.n_random / max(n_others, 1))
        probabilities[self.hard_concrete.select(self.n_l0)] = 1.0
        return probabilities


def _as_numpy(generator: np.random.Generator | torch.Generator) -> np.random.Generator:
    if isinstance(generator, np.random.Generator):
        return generator
    # One number from the given stream seeds the draw, so that the stream moves on.
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return np.random.default_rng(int(seed))
