"""Folds of targets for cross-validation, in which targets that share information stay together.

A target whose twin is among those that a fold is calibrated to is not held out: its error then
says nothing about totals that no one targets. So whole groups of targets are held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from microcalibrate.arrays import Vector, is_sparse
from microcalibrate.errors import InvalidOption, InvalidProblem
from microcalibrate.problem import Problem

if TYPE_CHECKING:
    pass

Index = NDArray[np.int64]

KINDS = ("correlation", "family", "names")
"""Ways in which `target_groups` finds groups by itself."""

# Columns whose correlation is beyond this, whatever its sign, tell much the same about a record.
CORRELATED = 0.9
# A column counts as constant when its variance is below this share of its mean square.
LEAST_VARIATION = 1e-9
# Columns whose products with all others are in memory at a time.
COLUMNS_A_BLOCK = 512


def target_folds(
    problem_or_matrix: Any,
    names: Sequence[str] | None,
    n_folds: int,
    *,
    groups: Any = "correlation",
    families: Sequence[str | None] | None = None,
    threshold: float = CORRELATED,
    seed: int = 0,
) -> tuple[Index, ...]:
    """Split targets into folds of about equal size, groups of like targets whole.

    Args:
        problem_or_matrix: A `Problem`, or an estimate matrix (array or SciPy sparse matrix), shape
            `(n_records, n_targets)`, whose records then count equally.
        names: One name per target; None takes those of the problem.
        n_folds: How many folds, from 2 to the number of groups.
        groups: What stays together; see `target_groups`.
        families: A family per target, for `groups="family"`.
        threshold: Absolute correlation, in (0, 1], for `groups="correlation"`.
        seed: Of the order in which groups of one size are dealt out.

    Returns:
        Positions of the targets of each fold, ascending; every target is in exactly one.

    Raises:
        InvalidOption: If an option is out of its range, or there are fewer groups than folds.
        InvalidProblem: If names, families or labels do not fit the number of targets.

    Examples:
        >>> twins = np.array([[1.0, 2.0, 0.0], [3.0, 6.0, 1.0], [2.0, 4.0, 5.0]])
        >>> [fold.tolist() for fold in target_folds(twins, ["a", "twice a", "b"], 2)]
        [[0, 1], [2]]
    """
    if not isinstance(n_folds, (int, np.integer)) or isinstance(n_folds, bool) or n_folds < 2:
        raise InvalidOption(
            f"n_folds={n_folds!r} must be a whole number from 2: some targets are held out while "
            "others are calibrated to."
        )
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise InvalidOption(f"seed={seed!r} must be a whole number that is not negative.")
    labels = target_groups(
        problem_or_matrix, names, groups=groups, families=families, threshold=threshold
    )
    sizes = np.bincount(labels)
    if len(sizes) < n_folds:
        raise InvalidOption(
            f"{len(labels)} targets form {len(sizes)} groups (groups={_shown(groups)}), too few "
            f"for n_folds={n_folds}. "
            + (f"Ask for at most {len(sizes)} folds, or g" if len(sizes) > 1 else "G")
            + "roup them otherwise: groups=None lets each target stand alone, and then targets "
            "that share information leak from fold to fold."
        )
    # The largest group goes first, each to the fold that is smallest so far; chance settles ties.
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(sizes))
    fold_of_group = np.empty(len(sizes), dtype=np.int64)
    filled = np.zeros(n_folds, dtype=np.int64)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold_of_group[group] = np.argmin(filled)
        filled[fold_of_group[group]] += sizes[group]
    fold_of_target = fold_of_group[labels]
    return tuple(np.flatnonzero(fold_of_target == fold) for fold in range(n_folds))


def target_groups(
    problem_or_matrix: Any,
    names: Sequence[str] | None = None,
    *,
    groups: Any = "correlation",
    families: Sequence[str | None] | None = None,
    threshold: float = CORRELATED,
) -> Index:
    """Number of the group that each target belongs to.

    Args:
        problem_or_matrix: A `Problem`, or an estimate matrix, shape `(n_records, n_targets)`.
        names: One name per target; None takes those of the problem.
        groups: "correlation" joins targets whose columns are correlated beyond the threshold,
            weighted by the design, and all that are so joined in a chain; "family" joins those of
            one family (the part of the name before its last "/" where no families are given);
            "names" those with one beginning, the part before the first "/"; None joins none. Or
            one label per target, None for a target that stands alone.
        families: A family per target, None for a target that stands alone.
        threshold: Absolute correlation, in (0, 1].

    Returns:
        Shape `(n_targets,)`: whole numbers from 0, in order of first appearance.

    Raises:
        InvalidOption: If `groups` or the threshold is none of these.
        InvalidProblem: If names, families or labels do not fit the number of targets.

    Examples:
        >>> target_groups(np.eye(3), ["CA/men", "CA/women", "TX/men"], groups="names")
        array([0, 0, 1])
    """
    matrix, share, names = _parts(problem_or_matrix, names)
    n_targets = matrix.shape[1]
    if families is not None and not (isinstance(groups, str) and groups == "family"):
        raise InvalidOption('families group targets only with groups="family". Set it, or drop it.')
    if groups is None:
        return np.arange(n_targets)
    if not isinstance(groups, str):
        return _numbered(_as_labels(groups, n_targets, "groups"))
    if groups == "correlation":
        if not isinstance(threshold, (int, float)) or not 0 < threshold <= 1:
            raise InvalidOption(f"threshold={threshold!r} must be in (0, 1].")
        return _correlated(matrix, share, float(threshold))
    if groups == "family":
        if families is None:
            return _numbered([name.rpartition("/")[0] or None for name in names])
        return _numbered(_as_labels(families, n_targets, "families"))
    if groups == "names":
        return _numbered([name.partition("/")[0] for name in names])
    raise InvalidOption(
        f"groups={groups!r} is not known. Use one of {list(KINDS)}, None, or a label per target."
    )


def _parts(
    problem_or_matrix: Any, names: Sequence[str] | None
) -> tuple[Any, Vector, tuple[str, ...]]:
    """Matrix, share of each record in the design weights, and names."""
    if isinstance(problem_or_matrix, Problem):
        problem = problem_or_matrix
        matrix, share = problem.estimate_matrix, problem.design_weights
        known = problem.target_names
    else:
        matrix = problem_or_matrix
        matrix = sp.csr_array(matrix) if is_sparse(matrix) else np.asarray(matrix, np.float64)
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise InvalidProblem(
                f"the estimate matrix has shape {matrix.shape}; it must be (n_records, n_targets), "
                "with at least one of each."
            )
        share = np.ones(matrix.shape[0])
        known = tuple(f"target_{column}" for column in range(matrix.shape[1]))
    given = known if names is None else tuple(str(name) for name in names)
    if len(given) != matrix.shape[1]:
        raise InvalidProblem(f"there are {len(given)} names for {matrix.shape[1]} targets.")
    return matrix, share / share.sum(), given


def _as_labels(given: Any, n_targets: int, what: str) -> list[Any]:
    try:
        labels = list(given)
    except TypeError as error:
        raise InvalidOption(
            f"{what}={given!r} is not known. Use one of {list(KINDS)}, None, or a label per target."
        ) from error
    if any(np.ndim(label) for label in labels):
        raise InvalidProblem(f"{what} must hold one text or number per target, not rows of them.")
    if len(labels) != n_targets:
        raise InvalidProblem(f"{what} has {len(labels)} labels for {n_targets} targets.")
    return labels


def _numbered(labels: Sequence[Any]) -> Index:
    """Labels as whole numbers in order of first appearance; None is a label of its own each."""
    numbers: dict[Any, int] = {}
    # A tuple of the position cannot be mistaken for a label that stands alone.
    keys = [
        ("alone", place) if label is None or label != label else ("group", label)
        for place, label in enumerate(labels)
    ]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _correlated(matrix: Any, share: Vector, threshold: float) -> Index:
    """Connected components of columns with a correlation beyond the threshold, constant ones one.

    Constant columns all tell the same, a total of weights, and have no correlation of their own.
    """
    # In units of its own size, so that 1 and 1e12 side by side lose nothing.
    largest = abs(matrix).max(axis=0)
    largest = np.asarray(largest.toarray() if is_sparse(largest) else largest).ravel()
    unit = 1 / np.where(largest > 0, largest, 1.0)
    root = np.sqrt(share)
    columns: Any
    if is_sparse(matrix):
        columns = sp.csc_array(sp.diags_array(root) @ matrix @ sp.diags_array(unit))
    else:
        columns = root[:, None] * matrix * unit
    mean = np.asarray(columns.T @ root)
    square = np.asarray((columns**2).sum(axis=0)).ravel()
    variance = square - mean**2
    varies = variance > LEAST_VARIATION * square
    deviation = np.sqrt(np.where(varies, variance, 1.0))
    n_targets = matrix.shape[1]
    pairs: list[Any] = []
    for start in range(0, n_targets, COLUMNS_A_BLOCK):
        block = slice(start, start + COLUMNS_A_BLOCK)
        products = columns[:, block].T @ columns
        if is_sparse(products):
            products = products.toarray()
        correlation = products - np.outer(mean[block], mean)
        correlation /= np.outer(deviation[block], deviation)
        # Rounding must not part twins at a threshold of 1.
        joined = np.abs(correlation) >= threshold - 1e-9
        joined &= np.outer(varies[block], varies)
        joined |= np.outer(~varies[block], ~varies)
        pairs.append(sp.csr_array(joined.astype(np.int8)))
    graph: Any = sp.vstack(pairs)
    _, component = connected_components(graph, directed=False)
    return _numbered(component.tolist())


def _shown(groups: Any) -> str:
    return repr(groups) if groups is None or isinstance(groups, str) else "the labels given"


def checked_positions(held_out_index: Any, n_targets: int) -> Index:
    """Positions of targets, ascending and each once.

    Raises:
        InvalidOption: If one is no position of a target.
    """
    index = np.asarray(held_out_index)
    whole = index.dtype.kind in "iu" or not index.size
    if index.ndim != 1 or not whole or np.any((index < 0) | (index >= n_targets)):
        raise InvalidOption(
            f"held-out targets are given by their positions, 0 to {n_targets - 1}, not by {index}."
        )
    return np.unique(index.astype(np.int64))


def without_targets(problem: Problem, held_out_index: Index) -> dict[str, Any]:
    """Arguments of a calibration to the other targets: nothing of those left out is in them.

    Raises:
        InvalidOption: If every target is left out.
    """
    kept = np.delete(np.arange(problem.n_targets), held_out_index)
    if not kept.size:
        raise InvalidOption("every target is held out: leave at least one to calibrate to.")
    importances = problem.importances[kept]
    largest = importances.max()
    whole = not held_out_index.size
    return {
        "weights": problem.design_weights,
        "targets": problem.targets[kept],
        "estimate_matrix": problem.estimate_matrix if whole else problem.estimate_matrix[:, kept],
        "target_names": [problem.target_names[j] for j in kept],
        "scales": problem.scales[kept],
        "tolerances": problem.tolerances[kept],
        # Equal ones become 1 again: they then sum as if the others had never been there.
        "importances": importances / largest if largest > 0 else importances,
        "min_weight_ratio": problem.min_ratio,
        "max_weight_ratio": problem.max_ratio,
        "min_weight": problem.min_weight,
        "max_weight": problem.max_weight,
        "frozen": problem.frozen,
        "heteroscedasticity": problem.heteroscedasticity,
    }
