"""An exported network as one list of operations with its tensors beside it."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree

from l0.errors import CannotTrace

aten = torch.ops.aten

# What export writes to check its own assumptions. A smaller network has other sizes.
_GUARDS = frozenset(
    {
        aten._assert_tensor_metadata.default,
        aten._assert_async.msg,
        aten._assert_scalar.default,
        aten.sym_constrain_range.default,
        aten.sym_constrain_range_for_size.default,
    }
)


@dataclass
class FlatGraph:
    """A network as one list of operations, without modules.

    Attributes:
        graph: Placeholders are named as the arguments of `forward`, outputs are nested as they
            were; parameters and buffers are read by `get_attr` nodes.
        tensors: Parameters and buffers by the dotted names that those nodes have as target.
        transient: Names of buffers that are not part of `state_dict`.
    """

    graph: fx.Graph
    tensors: dict[str, Tensor]
    transient: frozenset[str]


def flat_graph(program: ExportedProgram, module: nn.Module) -> FlatGraph:
    """The operations of an exported module, with inputs and outputs as its `forward` has them.

    Args:
        program: What `torch.export.export` made of `module`.
        module: The module; only the signature of its `forward` is read.

    Returns:
        A graph of its own; its tensors are those of the program, not copies. Arguments of
        `forward` that are no tensors were fixed by the export and are no longer asked for.

    Raises:
        CannotTrace: If an output is nested in something other than tuples, lists and dicts, or
            if `forward` changes a buffer in place.

    Examples:
        >>> class Twice(nn.Module):
        ...     def forward(self, x, *, words):
        ...         return {"twice": 2 * words["left"] + x}
        >>> args, kwargs = (torch.ones(2),), {"words": {"left": torch.ones(2)}}
        >>> program = torch.export.export(Twice(), args, kwargs)
        >>> flat = flat_graph(program, Twice())
        >>> fx.GraphModule(nn.Module(), flat.graph)(torch.ones(2), {"left": torch.ones(2)})
        {'twice': tensor([3., 3.])}
    """
    flat = FlatGraph(fx.Graph(), {}, frozenset())
    signature = program.graph_signature
    held = {**program.state_dict, **program.constants}
    transient = {
        spec.target
        for spec in signature.input_specs
        if spec.kind == InputKind.CONSTANT_TENSOR or spec.persistent is False
    }
    specs = {spec.arg.name: spec for spec in signature.input_specs}
    copies: dict[fx.Node, Any] = _inputs(flat.graph, program, module)
    for node in program.graph.nodes:
        if node in copies or node.target in _GUARDS:
            continue
        if node.op == "placeholder":
            name = specs[node.name].target
            if node.users and name is not None:
                copies[node] = flat.graph.create_node("get_attr", name, name=node.name)
                flat.tensors[name] = held[name]
        elif node.op == "output":
            flat.graph.output(_nested(program, copies))
        elif node.target in (aten.detach_.default, aten.lift_fresh_copy.default):
            # A constant written in `forward`; nothing below changes it in place.
            copies[node] = copies[node.args[0]]
            continue
        else:
            copies[node] = flat.graph.node_copy(node, lambda old: copies[old])
        if node in copies:
            copies[node].meta = dict(node.meta)
    flat.transient = frozenset(transient & flat.tensors.keys())
    _drop_unread(flat.graph)
    return flat


def _drop_unread(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op in ("call_function", "get_attr") and not node.is_impure():
            graph.erase_node(node)


def _inputs(
    graph: fx.Graph,
    program: ExportedProgram,
    module: nn.Module,
) -> dict[fx.Node, fx.Node]:
    """Placeholders named as the arguments, and what reads the parts of nested ones."""
    specs = {
        spec.arg.name: spec.arg
        for spec in program.graph_signature.input_specs
        if spec.kind == InputKind.USER_INPUT
    }
    leaves = [node for node in program.graph.nodes if node.name in specs]
    positional, named = pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    copies: dict[fx.Node, fx.Node] = {}

    def fill(part: Any, make: Any) -> None:
        """Make a node for each tensor in a part of the inputs, and its containers."""
        if isinstance(part, fx.Node):
            if not isinstance(specs[part.name], ConstantArgument):
                copies[part] = make()
                copies[part].meta = dict(part.meta)
            return
        items = part.items() if isinstance(part, Mapping) else enumerate(part)
        container: list[fx.Node] = []

        def read(key: Any) -> fx.Node:
            if not container:
                container.append(make())
            return graph.call_function(operator.getitem, (container[0], key))

        for key, inner in items:
            fill(inner, lambda key=key: read(key))

    for name, part in bound_inputs(module, positional, named).items():
        fill(part, lambda name=name: _placeholder(graph, name))
    return copies


def _placeholder(graph: fx.Graph, name: str) -> fx.Node:
    """A placeholder after the others, before anything that is computed."""
    last = None
    for node in graph.nodes:
        if node.op == "placeholder":
            last = node
    with graph.inserting_before(next(iter(graph.nodes), None) if last is None else last.next):
        return graph.placeholder(name)


def bound_inputs(
    module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Inputs under the names that a flat graph of the module has for them.

    Args:
        module: Whose `forward` is called.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Returns:
        Name to value. Those of `*images` are named `images_0`, `images_1`, …

    Examples:
        >>> bound_inputs(nn.Linear(2, 2), ["x"])
        {'input': 'x'}
    """
    bound = inspect.signature(module.forward).bind(*args, **(kwargs or {}))
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"{name}_{position}": part for position, part in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        else:
            found[name] = value
    return found


def _nested(program: ExportedProgram, copies: Mapping[fx.Node, Any]) -> Any:
    """The output as `forward` nests it, with nodes in the place of tensors."""
    (leaves,) = program.graph.output_node().args
    spec = program.call_spec.out_spec
    if spec is None or len(leaves) != spec.num_leaves:
        raise CannotTrace(
            "`forward` changes a buffer or an input in place. Give it back as an output instead."
        )
    nested = pytree.tree_unflatten(fx.map_arg(leaves, lambda old: copies[old]), spec)
    return _plain(nested)


def _plain(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {key: _plain(inner) for key, inner in part.items()}
    if isinstance(part, tuple) and type(part) is not tuple:
        return type(part)(*map(_plain, part))
    if isinstance(part, tuple | list):
        return type(part)(map(_plain, part))
    if part is None or isinstance(part, fx.Node | bool | int | float | str):
        return part
    raise CannotTrace(
        f"an output is a {type(part).__name__}. Return tensors in tuples, lists and dicts."
    )
