"""Uniform random numbers out of a given generator, which a compiled model can draw as well."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor

# Note [Generators in compiled models]: a graph holds numbers and tensors, but no generator. So
# each generator has a number, and an operator of our own draws from the generator of that number.
# It is marked as random, so that no compiler computes it ahead of time, and each call has a number
# of its own, as a compiler merges calls that look alike, whatever the mark says. Generators are
# held weakly: they live as long as the gates that use them.
_numbers: WeakKeyDictionary[torch.Generator, int] = WeakKeyDictionary()
_generators: WeakValueDictionary[int, torch.Generator] = WeakValueDictionary()
_count = itertools.count()


def _uniform(
    shape: Sequence[int],
    number: int,
    call: int,  # noqa: ARG001 - it tells one call from another
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    return torch.rand(shape, generator=_generators[number], dtype=dtype, device=device)


def _without_values(
    shape: Sequence[int],
    number: int,  # noqa: ARG001 - the shape does not depend on it
    call: int,  # noqa: ARG001 - nor on this
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


if not hasattr(torch.ops.l0, "uniform"):  # It is there when a notebook reloads this file.
    torch.library.define(
        "l0::uniform",
        "(SymInt[] shape, int number, int call, ScalarType dtype, Device device) -> Tensor",
        tags=(torch.Tag.nondeterministic_seeded,),
    )
    torch.library.impl("l0::uniform", "CompositeExplicitAutograd", _uniform)
    torch.library.register_fake("l0::uniform", _without_values)


def uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers in `[0, 1)` of the shape and type of `like`.

    Args:
        like: Whose shape and type to take.
        generator: Where they come from; PyTorch's global generator if None.

    Returns:
        Numbers on the generator's device, so that a seed means the same numbers anywhere; on the
        device of `like` without a generator.
    """
    if generator is None:
        return torch.rand(like.shape, dtype=like.dtype, device=like.device)
    if not torch.compiler.is_compiling():
        return torch.rand(
            like.shape, generator=generator, dtype=like.dtype, device=generator.device
        )
    # Asking for the identity makes the compiler look whether it is still the same generator.
    id(generator)
    numbers: Tensor = torch.ops.l0.uniform(
        like.shape, _number_of(generator), _number_of_call(), like.dtype, generator.device
    )
    return numbers


def _number_of(generator: torch.Generator) -> int:
    if generator not in _numbers:
        _numbers[generator] = next(_count)
        _generators[_numbers[generator]] = generator
    return _numbers[generator]


def _number_of_call() -> int:
    return next(_count)


# What `torch.compiler.assume_constant_result` does: both are asked when a graph is made, and their
# answers are part of it. That decorator itself would load the whole compiler with this package.
_number_of._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as PyTorch has it
_number_of_call._dynamo_marked_constant = True  # type: ignore[attr-defined]  # likewise
