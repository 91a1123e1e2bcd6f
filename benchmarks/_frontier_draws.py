"""Ways to choose k records from a dense solution: which stay, and what they start from.

All give a `Draw`, which the same refit then calibrates.
"""

from collections.abc import Callable

import numpy as np
from _frontier_rivals import GatePath, LassoPath

from l0.selection import inclusion_probabilities, systematic
from microcalibrate.problem import Problem
from microcalibrate.selection.drawing import (
    DEEPEST_TREE,
    SELECTIONS,
    Budget,
    Draw,
    Vector,
    gate_sizes,
)
from microcalibrate.selection.ordering import neighbour_order
from microcalibrate.selection.sampled_gates import sampled_gates

KAPPAS = (0.3, 1.0, 3.0, 10.0)

# A way to choose: count and seed in, draw out.
Method = Callable[[int, int], Draw]


def methods(part: Problem, dense_weights: Vector, path_seed: int) -> dict[str, Method]:
    """Every method by name, ready for one fold.

    Args:
        part: The targets of the fold, none of those held out.
        dense_weights: Weights calibrated to them on all records, shape `(n_records,)`.
        path_seed: Of the gates' noise; their path is one for all counts.

    Returns:
        Functions of the number of records and the seed. Paths of penalties are kept between calls.
    """

    def built_in(selection: str, kappa: float = 1.0) -> Method:
        return lambda records, seed: SELECTIONS[selection](
            part, dense_weights, Budget(records, 0.0, kappa), seed
        )

    def by_size(sizes: Vector, *, alike: bool) -> Method:
        return lambda records, seed: drawn(part, dense_weights, sizes, records, seed, alike=alike)

    lasso, gates = LassoPath(part, dense_weights), GatePath(part, dense_weights, path_seed)
    ours = {f"closed form, kappa {kappa:g}": built_in("closed_form", kappa) for kappa in KAPPAS}
    return {
        **ours,
        "top k": built_in("top_k"),
        "simple random": built_in("random"),
        "PPS": by_size(dense_weights, alike=False),
        "PPS, ordered": by_size(dense_weights, alike=True),
        "closed form, kappa 1, unordered": by_size(
            gate_sizes(part, dense_weights, 1.0), alike=False
        ),
        "L1": lambda records, _: lasso.draw(records),
        "gates, Adam": lambda records, _: gates.draw(records),
        "sampled_gates": lambda records, seed: sampled_gates(
            part, dense_weights, Budget(records, 0.0, 1.0), seed
        ),
    }


def drawn(
    part: Problem, weights: Vector, sizes: Vector, records: int, seed: int, *, alike: bool
) -> Draw:
    """Systematic sampling with chances proportional to size, along a random or a like order.

    A record whose share of the sizes would give it a chance above 1 is taken for certain, at its
    own dense weight; the others share what is left of the count. Each starts from `w / pi` (Horvitz
    and Thompson 1952): proportional to its weight that is the same for all that are not certain.
    """
    rng = np.random.default_rng(seed)
    probabilities = inclusion_probabilities(sizes, records)
    alive = np.flatnonzero(probabilities > 0)
    if alike:
        rows = part.estimate_matrix[alive].multiply(1 / part.scales).tocsr()
        depth = min(DEEPEST_TREE, max(1, int(np.ceil(np.log2(records)))))
        order = neighbour_order(rows, depth, rng)
    else:
        order = rng.permutation(len(alive))
    kept = alive[systematic(probabilities[alive], rng, order=order)]
    return Draw(kept, weights[kept] / probabilities[kept], probabilities)
