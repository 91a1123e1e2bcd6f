"""Measure what the gates of a network do, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from l0.gated_model import GatedModel
from l0.hard_concrete import HardConcrete, prob_one
from l0.penalties import GatedLayer
from l0.reports.summaries import NOTHING, PRODUCTS, Amounts, GatesReport, LayerReport, Report

N_BINS = 10


@torch.no_grad()
def report(model: nn.Module) -> Report:
    """Say what the gates of a network do, layer by layer.

    Sizes of a network that `convert` made are those that are left when it is materialized: a unit
    that is shut takes its row along, and its column in every layer that reads it. Layers that were
    made with gates, such as `L0Linear`, count the parameters that their own gates leave.

    Args:
        model: A network with gates anywhere in it, in any mode; nothing in it is changed.

    Returns:
        A report that prints as tables; `to_frame()` and `plot()` give the rest.

    Examples:
        >>> from l0.layers import L0Linear
        >>> model = nn.Sequential(L0Linear(20, 5, init_mean=0.9), L0Linear(5, 1, init_mean=0.4))
        >>> print(report(model))
        Gates
        layer  gates         open  expected   P: 0 to 1  soft  gradient
        ───────────────────────────────────────────────────────────────
        0      L0Linear  20 of 20      18.0  ········█·   63%         –
        1      L0Linear    0 of 5       2.0  ····█·····   37%         –
        ───────────────────────────────────────────────────────────────
        all              20 of 25      20.0
        <BLANKLINE>
        Parameters
        layer  type      params  expected  dense  left
        ──────────────────────────────────────────────
        0      L0Linear     105        95    105  100%
        1      L0Linear       1         3      6   17%
        ──────────────────────────────────────────────
        all                 106        98    111   95%
    """
    converted = {name: part for name, part in model.named_modules() if isinstance(part, GatedModel)}
    gates = [*_gates_of_layers(model, converted)]
    layers: list[LayerReport] = []
    for name, part in converted.items():
        gates += _gates_of(name, part)
        layers += _layers_of(name, part)
    layers += _plain_layers(model, converted)
    order = _order(model, converted)
    gates.sort(key=lambda one: order[one.layer])
    layers.sort(key=lambda one: order.get(one.layer, len(order)))
    macs = [part.macs for part in layers if part.macs is not None]
    return Report(
        tuple(gates),
        tuple(layers),
        sum((one.count for one in gates), NOTHING),
        sum((one.params for one in layers), NOTHING),
        sum(macs, NOTHING) if layers and len(macs) == len(layers) else None,
    )


def _gates_of(prefix: str, model: GatedModel) -> Iterator[GatesReport]:
    for key, gate in model.named_gates():
        given = model.sets[key]
        linked = tuple(_joined(prefix, name) for name in given.linked)
        yield _gates(gate, _joined(prefix, given.name), given.kind, linked)


def _gates_of_layers(
    model: nn.Module, converted: Mapping[str, GatedModel]
) -> Iterator[GatesReport]:
    """Gates that stand in layers made with them, or alone."""
    known = {id(part) for gated in converted.values() for part in gated.modules()}
    for name, part in model.named_modules():
        if isinstance(part, HardConcrete) and id(part) not in known:
            place = name.rpartition(".")[0]
            owner = model.get_submodule(place)
            held = bool(place) and getattr(owner, "gate", None) is part
            if held:
                yield _gates(part, place, type(owner).__name__, ())
            else:
                yield _gates(part, name, type(part).__name__, ())


def _gates(gate: HardConcrete, layer: str, kind: str, linked: tuple[str, ...]) -> GatesReport:
    chances = gate.prob_active().double()
    soft = chances - prob_one(gate.log_alpha, gate.temperature, gate.limits).double()
    gradient = gate.log_alpha.grad
    n_gates = chances.numel()
    histogram, _ = np.histogram(chances.cpu().numpy(), bins=N_BINS, range=(0, 1))
    return GatesReport(
        layer=layer,
        kind=kind,
        count=Amounts(int(torch.count_nonzero(gate.median())), float(chances.sum()), n_gates),
        histogram=tuple(histogram.tolist()),
        soft=float(soft.sum()) / max(n_gates, 1),
        with_gradient=None
        if gradient is None
        else int(torch.count_nonzero(gradient)) / max(n_gates, 1),
        settled=gate.settled,
        linked=linked,
    )


def _layers_of(prefix: str, model: GatedModel) -> Iterator[LayerReport]:
    """Layers of a converted network; what is left of each depends on the gates of others."""
    chances = model.prob_active()
    states = (model.open_mask(), chances, torch.ones_like(chances))
    params, macs = (
        [model.sizes.by_parameter(state, metric) for state in states]
        for metric in ("params", "macs")
    )
    for place, names in _by_layer(params[0]).items():
        yield LayerReport(
            _joined(prefix, place),
            type(model.module.get_submodule(place)).__name__,
            _amounts(sum(float(sizes[name]) for name in names) for sizes in params),
            _amounts(sum(float(sizes.get(name, 0)) for name in names) for sizes in macs),
        )
    if model.units.products:
        whole = [float(model.sizes(state, "macs")) for state in states]
        of_weights = [float(sum(sizes.values())) for sizes in macs]
        products = _amounts(all_ - part for all_, part in zip(whole, of_weights, strict=True))
        yield LayerReport(_joined(prefix, PRODUCTS), "", NOTHING, products)


def _amounts(sizes: Iterable[float]) -> Amounts:
    """Sizes for the median gates, their chances, and open gates."""
    hard, expected, dense = sizes
    return Amounts(round(hard), expected, round(dense))


def _plain_layers(model: nn.Module, converted: Mapping[str, GatedModel]) -> Iterator[LayerReport]:
    """Layers outside of converted networks, as far as their own gates tell."""
    known = {id(one) for gated in converted.values() for one in gated.parameters()}
    known |= {id(gate.log_alpha) for gate in model.modules() if isinstance(gate, HardConcrete)}
    chances: dict[int, Tensor] = {}
    for part in model.modules():
        if isinstance(part, GatedLayer) and not isinstance(part, GatedModel):
            chances |= {
                id(one): chance.expand(one.shape).double()
                for one, chance in part.gated_parameters()
            }
    own = {name: one for name, one in model.named_parameters() if id(one) not in known}
    for place, names in _by_layer(own).items():
        total = NOTHING
        for name in names:
            size = own[name].numel()
            chance = chances.get(id(own[name]))
            # The median gate is not zero where a gate is rather open than shut.
            total += (
                Amounts(size, size, size)
                if chance is None
                else Amounts(int((chance > 0.5).sum()), float(chance.sum()), size)
            )
        yield LayerReport(place, type(model.get_submodule(place)).__name__, total, None)


def _by_layer(names: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of parameters under the name of the module that owns them."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(name.rpartition(".")[0], []).append(name)
    return grouped


def _order(model: nn.Module, converted: Mapping[str, GatedModel]) -> dict[str, int]:
    """Position of each module under the name that it has in a report."""
    places: dict[str, int] = {}
    for name, _ in model.named_modules():
        places.setdefault(name, len(places))
        for inner, _ in converted[name].module.named_modules() if name in converted else ():
            places.setdefault(_joined(name, inner), len(places))
    return places


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name
