"""How well weights meet their targets, and how concentrated they are: the same eight numbers for
every method.

Needs NumPy only (the matrix may be a NumPy array or any SciPy sparse matrix), so that every
environment can import it.
"""

import numpy as np


def relative_error(weights, estimate_matrix, targets):
    """Absolute error of each target, as a share of the target.

    Args:
        weights: Weights, shape `(n_records,)`, in persons per record.
        estimate_matrix: What a record adds to each target, shape `(n_records, n_targets)`, dense
        or sparse.
        targets: Totals to meet, shape `(n_targets,)`. A target smaller than 1 counts as 1, so that
        0 is allowed.

    Returns:
        Shape `(n_targets,)`, in `[0, inf)`.
    """
    weights = np.asarray(weights, dtype=np.float64)
    targets = np.asarray(targets, dtype=np.float64)
    # Note [Score in float64]: a float32 product of 280,005 terms errs by about 1e-6, as much as
    # the best fits do.
    estimates = np.asarray(estimate_matrix.T.astype(np.float64) @ weights).ravel()
    return np.abs(estimates - targets) / np.maximum(np.abs(targets), 1.0)


def score(weights, estimate_matrix, targets, design_weights):
    """Fit and concentration of one weight vector.

    Args:
        weights: Weights to judge, shape `(n_records,)`.
        estimate_matrix: Shape `(n_records, n_targets)`, dense or sparse.
        targets: Shape `(n_targets,)`.
        design_weights: The weights that the method started from, shape `(n_records,)`.

    Returns:
        `records` kept; `median_error`; `capped_error` (mean, each capped at 1); `rms_error`;
        `within_10pct`;
        `kish` (effective sample size, in records); `max_over_mean` of the kept weights;
        `total_over_design`.

    Examples:
        >>> table = score([1.0, 3.0, 0.0], np.eye(3), [1.0, 2.0, 4.0], [1.0, 1.0, 1.0])
        >>> {name: round(value, 4) for name, value in table.items()}  # doctest:
        +NORMALIZE_WHITESPACE
        {'records': 2, 'median_error': 0.5, 'capped_error': 0.5, 'rms_error': 0.6455,
        'within_10pct': 0.3333, 'kish': 1.6, 'max_over_mean': 1.5, 'total_over_design': 1.3333}
    """
    weights = np.asarray(weights, dtype=np.float64)
    error = relative_error(weights, estimate_matrix, targets)
    kept_mask = weights > 0
    return {
        "records": int(kept_mask.sum()),
        "median_error": float(np.median(error)),
        "capped_error": float(np.minimum(error, 1.0).mean()),
        "rms_error": float(np.sqrt((error**2).mean())),
        "within_10pct": float((error < 0.1).mean()),
        "kish": float(weights.sum() ** 2 / (weights**2).sum()),
        "max_over_mean": float(weights.max() / weights[kept_mask].mean()),
        "total_over_design": float(weights.sum() / np.sum(design_weights)),
    }
