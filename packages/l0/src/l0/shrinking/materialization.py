"""From a network with gates to a really smaller one, proven equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from l0.errors import InvalidSetting, NotEqual
from l0.gated_model import GatedModel
from l0.layers import PlainForm
from l0.shrinking.constants import find_constants
from l0.shrinking.dead_units import make_plan
from l0.shrinking.flat_graph import FlatGraph, bound_inputs, flat_graph
from l0.shrinking.plain_graph import as_modules, owner_of
from l0.shrinking.plain_layers import ATTENTION, TRAINING_DROPOUT, arguments
from l0.shrinking.slicing import shrink
from l0.tracing import export, trace

TOLERANCE = 1e-5
SMALLEST_SCALE = 1e-3


def materialize(
    model: nn.Module,
    example_inputs: Sequence[Any],
    *,
    example_kwargs: Mapping[str, Any] | None = None,
    verify: bool = True,
    tolerance: float = TOLERANCE,
) -> fx.GraphModule:
    """A smaller network of plain layers that gives what the model gives in evaluation mode.

    Gate values are multiplied into the weights, and parametrized weights become plain. A unit
    that nothing reads goes, with its row, bias and norm, and its columns in all that would read
    it. A unit that is the same for all inputs goes too, where what it adds can be added to a bias
    exactly; otherwise it stays.

    Args:
        model: A `GatedModel`, a network that is built of gated layers, or any network with rows
            or columns of zeros. It is not changed.
        example_inputs: Inputs, with the examples along the first axis of each tensor.
        example_kwargs: Inputs by name.
        verify: Whether to compare both networks on the example.
        tolerance: Largest difference allowed, relative to the largest absolute value in an
            output, or to 0.001 if that is smaller. In half precision it is at least 32 roundings.

    Returns:
        A network in the training mode of the model. Its layers have their original names:
        `small.conv1` is a `torch.nn.Conv2d` with fewer channels. It can be trained, exported
        with `torch.export` and to ONNX, and saved with `save_spec`. Arguments that were no
        tensors are fixed as they were in the example, and are no longer asked for. What
        `forward` does in training only is not seen in an export in evaluation mode: dropout
        layers, `functional.dropout` and the dropout of attentions are carried over, but no other
        `if self.training`, and no `torch.no_grad` (use `detach`).

    Raises:
        InvalidSetting: If `example_inputs` is a single tensor.
        CannotTrace: If the model cannot be followed by `torch.export`.
        NotEqual: If the outputs differ by more than the tolerance.

    Examples:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> _ = net[2].weight.data[:, 1].zero_()  # Nothing reads the second unit.
        >>> small = materialize(net, [torch.randn(5, 4)])
        >>> small.get_submodule("0")
        Linear(in_features=4, out_features=2, bias=True)
    """
    if isinstance(example_inputs, Tensor | Mapping):
        raise InvalidSetting(
            f"`example_inputs` is a {type(example_inputs).__name__}, not a sequence. Give [x], and "
            "inputs by name as `example_kwargs`."
        )
    folded = _folded(model)
    kwargs = dict(example_kwargs or {})
    with torch.no_grad():
        found = trace(folded, example_inputs, kwargs)
        flat = flat_graph(found.program, folded)
        inputs = bound_inputs(folded, example_inputs, kwargs)
        plan = make_plan(flat, found, find_constants(flat, _copied(inputs)))
        names = [str(node.target) for node in flat.graph.nodes if node.op == "placeholder"]
        shrink(flat, found, plan)
        _carry_attention_dropout(flat, folded, example_inputs, kwargs)
        small = as_modules(flat, folded)
        if verify:
            wanted = folded(*_copied(example_inputs), **_copied(kwargs))
            given = small(**_copied({name: inputs[name] for name in names}))
            _compare(wanted, given, tolerance)
    for name, part in small.named_modules():
        there = _part(model, name)
        part.training = model.training if there is None else there.training
    return small


def _carry_attention_dropout(
    flat: FlatGraph, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Note the dropout of attentions, which is an argument that evaluation mode sets to zero."""
    attentions = _attentions(flat.graph)
    if not attentions:
        return
    callers = {owner_of(node) for node in attentions}
    program = export(module, args, kwargs, in_training=callers)
    for node, other in zip(attentions, _attentions(program.graph), strict=True):
        node.meta[TRAINING_DROPOUT] = arguments(other)["dropout_p"]


def _attentions(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.target is ATTENTION]


def _part(model: nn.Module, name: str) -> nn.Module | None:
    root = model.module if isinstance(model, GatedModel) else model
    try:
        return root.get_submodule(name)
    except AttributeError:
        return None


def _folded(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, without gates: the median gates are in its weights."""
    if isinstance(model, GatedModel):
        folded = model.folded()
    else:
        folded = _with_plain_layers(deepcopy(model), {})
    folded.eval()
    for part in list(folded.modules()):
        if parametrize.is_parametrized(part):
            _use_plain_weights(part)
    return folded


def _use_plain_weights(part: nn.Module) -> None:
    """Put weights that are computed (a weight norm) in the place of what computes them."""
    names = list(part.get_submodule("parametrizations")._modules)
    values = {name: getattr(part, name).detach().clone() for name in names}
    # `remove_parametrizations` would change the class, which the original has as well.
    part.__class__ = parametrize.type_before_parametrizations(part)
    del part.parametrizations
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value))


def _with_plain_layers(part: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """A module with its gated layers replaced, once each, however often they are used."""
    if part not in made:
        made[part] = part.plain() if isinstance(part, PlainForm) else part
        if made[part] is part:
            for name, child in part._modules.items():
                if child is not None:
                    setattr(part, name, _with_plain_layers(child, made))
    return made[part]


def _copied(parts: Any) -> Any:
    """Inputs that a network may change in place without a trace."""
    return pytree.tree_map(lambda part: part.clone() if isinstance(part, Tensor) else part, parts)


def _compare(wanted: Any, given: Any, tolerance: float) -> None:
    leaves = pytree.tree_leaves(given)
    for (path, one), other in zip(pytree.tree_leaves_with_path(wanted), leaves, strict=True):
        if not isinstance(one, Tensor) or torch.equal(one, other):
            continue
        rounding = torch.finfo(one.dtype).eps if one.is_floating_point() else 0.0
        allowed = max(tolerance, 32 * rounding if one.element_size() < 4 else 0.0)
        scale = max(float(one.abs().max()), SMALLEST_SCALE)
        gap = float((one.cpu().double() - other.cpu().double()).abs().max()) / scale
        if not gap <= allowed:
            where = f"output {pytree.keystr(path)}" if path else "the output"
            raise NotEqual(
                f"{where} differs by {gap:.2g} of its largest value, where {allowed:.2g} is "
                "allowed. If it is rounding (compare the model in float64), raise `tolerance`."
            )
