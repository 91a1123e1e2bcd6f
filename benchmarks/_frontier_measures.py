"""What the frontier measures: targets held out, effective sample size, untargeted outputs."""

import numpy as np
import scipy.sparse as sp

from microcalibrate.problem import Problem
from microcalibrate.result import effective_sample_size
from microcalibrate.selection.drawing import Vector

NATIONAL = "/amount/All/-inf-inf"
# Their totals by state are targets, so these are no untargeted outputs.
TARGETED_BY_STATE = ("soi/adjusted_gross_income", "soi/count")


def outputs_by_state(problem: Problem) -> tuple[sp.csr_array, list[str]]:
    """Amounts of each variable in each state, none of which is a target.

    The nation's total of a variable (wages, dividends, ...) is a target, and so is each state's
    population; what a record adds to the first, in the state of the second, is an output of its
    own.

    Args:
        problem: `us_tax_2023`, with the names of its targets.

    Returns:
        What each record adds to each output, shape `(n_records, n_outputs)`, and
        their names.
    """
    names = list(problem.target_names)
    variables = [
        j
        for j, name in enumerate(names)
        if name.endswith(NATIONAL) and not name.startswith(TARGETED_BY_STATE)
    ]
    states = [j for j, name in enumerate(names) if name.startswith("pop/")]
    in_state = problem.estimate_matrix[:, states].tocsr()
    in_state.data = np.ones_like(in_state.data)
    if in_state.sum(axis=1).max() > 1:
        raise ValueError("a record lives in two states")
    amounts = problem.estimate_matrix[:, variables].tocsc()
    parts = [in_state.multiply(amounts[:, [j]]) for j in range(len(variables))]
    labels = [
        f"{names[v].removesuffix(NATIONAL)}/{names[s].removeprefix('pop/')}"
        for v in variables
        for s in states
    ]
    return sp.csr_array(sp.hstack(parts)), labels


class Judge:
    """Measures of weights that were calibrated without some of the targets.

    Args:
        problem: The whole problem.
        outputs: Untargeted outputs, shape `(n_records, n_outputs)`.
        held_out_index: The targets left out.
        dense_weights: The weights on all records that drift counts from, shape `(n_records,)`.
    """

    def __init__(
        self,
        problem: Problem,
        outputs: sp.csr_array,
        held_out_index: np.ndarray,
        dense_weights: Vector,
    ):
        self._problem = problem
        self._by_output = outputs.T.tocsr()
        self._held_out_index = held_out_index
        before = self._by_output @ dense_weights
        self._some = before != 0
        self._before = before[self._some]

    def __call__(self, weights: Vector) -> dict[str, float]:
        """Mean capped errors of the targets held out and of the others, Kish, and drift.

        Drift is the median of the absolute relative changes of the outputs.
        """
        errors = np.minimum(np.abs(self._problem.errors(weights)), 1.0)
        after = (self._by_output @ weights)[self._some]
        return {
            "held_out": float(errors[self._held_out_index].mean()),
            "train": float(np.delete(errors, self._held_out_index).mean()),
            "kish": effective_sample_size(weights),
            "drift": float(np.median(np.abs(after / self._before - 1))),
        }
