"""Which elements of a network's tensors belong to the same unit: labels that can be tied together.

A *unit* is what can be taken out of a network as a whole: a neuron, a channel, an attention head.
`Labels` say for each element of a tensor which unit it belongs to: an int64 array with the rank of
the tensor and size 1 along axes on which the unit does not depend, -1 where there is no unit. Two
units that a sum, a product or a norm makes inseparable are tied, and become one.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Labels: TypeAlias = NDArray[np.int64]
Shape: TypeAlias = tuple[int, ...]

NO_UNIT = -1


class Ties:
    """Units, those of them that are tied together, and those that must stay.

    Examples:
        >>> ties = Ties()
        >>> left, right = ties.new(3), ties.new(3)
        >>> ties.tie(left, right)
        >>> ties.representatives()[np.concatenate([left, right])].tolist()
        [0, 1, 2, 0, 1, 2]
    """

    def __init__(self) -> None:
        self._n_units = 0
        self._pairs: list[tuple[Labels, Labels]] = []
        self._kept: list[tuple[Labels, str]] = []

    def new(self, n_units: int) -> Labels:
        """Labels of units that did not exist before, shape `(n_units,)`."""
        first, self._n_units = self._n_units, self._n_units + n_units
        return np.arange(first, self._n_units, dtype=np.int64)

    def tie(self, left: Labels, right: Labels) -> None:
        """Make units that face each other one; a unit that faces none must stay.

        Both are broadcast to each other, as the tensors are.
        """
        one, other = (side.ravel() for side in np.broadcast_arrays(left, right))
        both = (one >= 0) & (other >= 0)
        self._pairs.append((one[both], other[both]))
        self.keep(np.where(one >= 0, one, other)[~both], "it meets values that are no unit's")

    def tie_along(self, labels: Labels, axes: tuple[int, ...]) -> Labels:
        """Tie units that differ only along some axes; the labels with size 1 there.

        Where only a part of the elements along an axis are units, those must stay.
        """
        varying = [axis for axis in axes if labels.shape[axis] > 1]
        if not varying:
            return labels
        highest: Labels = labels.max(axis=tuple(varying), keepdims=True)
        self.tie(labels, highest)
        return highest

    def keep(self, labels: Labels, reason: str) -> None:
        """Say why some units must stay."""
        units = labels[labels >= 0].ravel()
        if units.size:
            self._kept.append((units, reason))

    def representatives(self) -> Labels:
        """For each unit, the lowest label among those that it is tied to, shape `(n_units,)`."""
        parents = np.arange(self._n_units, dtype=np.int64)
        if not self._pairs:
            return parents
        left, right = (np.concatenate(side) for side in zip(*self._pairs, strict=True))
        while True:
            low, high = (
                np.minimum(parents[left], parents[right]),
                np.maximum(parents[left], parents[right]),
            )
            if np.array_equal(low, high):
                return parents
            np.minimum.at(parents, high, low)
            while not np.array_equal(parents, parents[parents]):
                parents = parents[parents]

    def kept(self) -> list[tuple[Labels, str]]:
        """Units that must stay, with the reasons, in the order in which they were given."""
        return self._kept


def none_of(shape: Shape) -> Labels:
    """Labels of a tensor without units."""
    return np.full((1,) * len(shape), NO_UNIT, dtype=np.int64)


def expanded(labels: Labels, shape: Shape) -> Labels:
    """Labels of each element, in the shape of the tensor."""
    return np.broadcast_to(labels, shape)


def compressed(labels: Labels) -> Labels:
    """The same labels with size 1 along every axis on which they do not depend."""
    for axis in range(labels.ndim):
        first = np.take(labels, [0], axis=axis) if labels.shape[axis] else labels
        if labels.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, labels.shape), labels):
            labels = first
    return labels


def varying_axes(labels: Labels) -> tuple[int, ...]:
    """Axes along which the unit changes."""
    return tuple(axis for axis, size in enumerate(labels.shape) if size > 1)
