"""A network as one list of tensor operations, and what is written beside them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from l0.errors import CannotTrace
from l0.tracing.labels import Shape


def export(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    in_training: Collection[str] = (),
) -> torch.export.ExportedProgram:
    """Export a module in evaluation mode, for any number of examples.

    Args:
        module: Any module that `torch.export` can follow. Its mode is left as it was.
        args: Its inputs; tensors have the examples along their first axis.
        kwargs: Its inputs by name.
        in_training: Names of modules that are in training mode nevertheless.

    Returns:
        The program; unused operations are gone.

    Raises:
        CannotTrace: If the module cannot be followed; the cause says where.
    """
    leaves, layout = pytree.tree_flatten((tuple(args), dict(kwargs or {})))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim]
    if tensors and all(leaf.shape[0] == 1 for leaf in tensors):
        # An export takes an axis of size 1 for one that will always be of size 1.
        leaves = [
            torch.cat([leaf, leaf]) if isinstance(leaf, Tensor) and leaf.ndim else leaf
            for leaf in leaves
        ]
    args, kwargs = pytree.tree_unflatten(leaves, layout)
    shapes: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.ndim:
            shapes[leaf] = {0: torch.export.Dim.AUTO}
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        for name in in_training:
            module.get_submodule(name).training = True
        with torch.no_grad(), warnings.catch_warnings():
            # Recurrent modules keep a list of their weights beside the parameters themselves.
            warnings.filterwarnings("ignore", "The tensor attribute", UserWarning)
            program = torch.export.export(
                module, tuple(args), dict(kwargs), dynamic_shapes=shapes, strict=False
            )
    except Exception as cause:
        raise CannotTrace(
            f"{type(module).__name__} cannot be followed by torch.export: "
            f"{str(cause).splitlines()[0] if str(cause) else type(cause).__name__}. The forward "
            "pass must not branch on the values of tensors; convert the part that does not."
        ) from cause
    finally:
        for part, training in modes.items():
            part.training = training
    program.graph.eliminate_dead_code()
    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            raise CannotTrace(
                f"{type(module).__name__} holds a program of its own ({node.target}), which cannot "
                "be followed. Put `autocast` and the like around the model, not into `forward`."
            )
    return program


def tensors_of(program: torch.export.ExportedProgram) -> dict[str, Tensor]:
    """Parameters, buffers and constants of an exported program by name."""
    return {**program.constants, **program.state_dict}


def first_names(module: nn.Module, program: torch.export.ExportedProgram) -> dict[str, str]:
    """For every name of a parameter or buffer, its first: tied weights have several."""
    names = dict.fromkeys(tensors_of(program))
    first: dict[int, str] = {}
    own = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    found = {name: first.setdefault(id(tensor), name) for name, tensor in own}
    return {name: found.get(name, name) for name in names}


def named_arguments(
    node: torch.fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """All arguments of an operation by name, with the defaults of those that are not given."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {**{str(i): argument for i, argument in enumerate(args)}, **kwargs}
    named = {argument.name: argument.default_value for argument in schema.arguments}
    named |= dict(zip(named, args, strict=False))
    return {**named, **kwargs}


def shape_of(tensor: Tensor) -> Shape:
    """Shape of a tensor for the example."""
    return tuple(example_of(size) for size in tensor.shape)


def example_of(size: Any) -> Any:
    """The number for the example, where a size is dynamic."""
    return (
        size.node.hint if isinstance(size, torch.SymInt | torch.SymFloat | torch.SymBool) else size
    )
