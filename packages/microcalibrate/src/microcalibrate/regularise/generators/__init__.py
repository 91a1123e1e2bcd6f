"""Generators of records: what they have in common, and those that need no further library."""

from __future__ import annotations

from microcalibrate.regularise.generators.anyorder import AnyOrder
from microcalibrate.regularise.generators.hotdeck import HotDeck
from microcalibrate.regularise.generators.protocol import (
    BACKENDS,
    Draws,
    Generator,
    Likelihood,
    load_generator,
    make_generator,
    sample_valid,
)

__all__ = [
    "BACKENDS",
    "AnyOrder",
    "Draws",
    "Generator",
    "HotDeck",
    "Likelihood",
    "load_generator",
    "make_generator",
    "sample_valid",
]
