"""What comes with the extra `[sklearn]`: scikit-learn and SciPy, imported here and nowhere else."""

from __future__ import annotations

from typing import Any

from l0.errors import MissingPackage

try:
    from scipy.optimize import nnls
    from scipy.sparse import csc_array
    from scipy.sparse import issparse as _issparse
    from sklearn.base import BaseEstimator, RegressorMixin, clone, is_classifier
    from sklearn.feature_selection import SelectorMixin
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold
    from sklearn.preprocessing import LabelEncoder
    from sklearn.utils.multiclass import type_of_target
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as missing:
    raise MissingPackage(
        "estimators and selectors need scikit-learn. Install it with: "
        "pip install 'l0-python[sklearn]'"
    ) from missing

check_sample_weight = _check_sample_weight


def issparse(values: Any) -> bool:
    """Whether values are a SciPy sparse matrix or array; they keep the type that they have."""
    return bool(_issparse(values))


__all__ = [
    "BaseEstimator",
    "KFold",
    "LabelEncoder",
    "LogisticRegression",
    "RegressorMixin",
    "SelectorMixin",
    "check_is_fitted",
    "check_sample_weight",
    "clone",
    "csc_array",
    "is_classifier",
    "issparse",
    "nnls",
    "type_of_target",
    "validate_data",
]
