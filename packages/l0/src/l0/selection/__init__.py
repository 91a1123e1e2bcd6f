"""Exactly k of n items: by random draws with known probabilities, by scores, and under wishes.

Needs NumPy alone.
"""

from l0.selection.draws import (
    Indices,
    Rng,
    inclusion_probabilities,
    simple_random,
    spread,
    systematic,
    top_k,
)
from l0.selection.quotas import Wishes, apportion, constrained_top_k, path

__all__ = [
    "Indices",
    "Rng",
    "Wishes",
    "apportion",
    "constrained_top_k",
    "inclusion_probabilities",
    "path",
    "simple_random",
    "spread",
    "systematic",
    "top_k",
]
