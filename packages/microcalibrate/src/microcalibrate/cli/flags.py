"""What the library's arguments are called on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FLAGS = {
    "aggregate": "--aggregate",
    "backend": "--backend",
    "batch": "--batch",
    "by": "--by",
    "cap": "--cap",
    "closeness": "--closeness",
    "cluster": "--cluster",
    "compare_with_random": "--random",
    "coverage": "--coverage",
    "device": "--device",
    "distance": "--distance",
    "encoding": "--encoding",
    "entropy_lambda": "--entropy-lambda",
    "families": "--groups",
    "flag_dominating": "--flag-dominating",
    "frozen": "--frozen",
    "fpc": "--fpc",
    "geography": "--geography",
    "groups": "--groups",
    "held_out": "--held-out",
    "heteroscedasticity": "--heteroscedasticity",
    "id_column": "--id",
    "ids": "--link",
    "kappa": "--kappa",
    "l0_lambda": "--l0-lambda",
    "lambda_max": "--lambda-max",
    "lambda_min": "--lambda-min",
    "least_miss": "--least-miss",
    "level": "--level",
    "lineage": "--lineage",
    "links": "--link",
    "lonely_psu": "--lonely-psu",
    "loosening": "--loosening",
    "loss": "--loss",
    "max_added": "--max-added",
    "max_epochs": "--epochs",
    "max_iter": "--max-iter",
    "max_offspring": "--max-offspring",
    "max_rounds": "--max-rounds",
    "max_weight": "--max-weight",
    "max_weight_ratio": "--max-ratio",
    "min_explained": "--min-explained",
    "min_weight": "--min-weight",
    "min_weight_ratio": "--min-ratio",
    "mode": "--mode",
    "n_bootstrap": "--bootstrap",
    "n_draws": "--draws",
    "n_folds": "--folds",
    "n_jobs": "--jobs",
    "n_reforms": "--n-reforms",
    "n_replicates": "--n-replicates",
    "n_resolve": "--resolve",
    "n_stability_seeds": "--stability-seeds",
    "n_trials": "--trials",
    "n_workers": "--jobs",
    "nest": "--nest",
    "objective": "--objective",
    "on_error": "--on-error",
    "on_failure": "--on-failure",
    "one_standard_error": "--one-standard-error",
    "other_versions": "--other-versions",
    "partition": "--partition",
    "prior": "--prior",
    "psu": "--psu",
    "refit_closeness": "--refit-closeness",
    "reform_fraction": "--reform-fraction",
    "reforms": "--reforms",
    "replicates": "--replicates",
    "result": "--run",
    "rho": "--rho",
    "sampler": "--sampler",
    "score_weights": "--score-weights",
    "seed": "--seed",
    "selection": "--selection",
    "share_target": "--share-target",
    "storage": "--storage",
    "strata": "--strata",
    "structure": "--structure",
    "study_name": "--study-name",
    "surface": "--surface",
    "target_errors": "--target-errors",
    "target_records": "--records",
    "temperature": "--temperature",
    "threshold": "--threshold",
    "time_budget": "--time-budget",
    "timeout": "--timeout",
    "tolerances": "--tolerance",
    "unit": "--unit",
    "untargeted": "--untargeted",
    "variable": "--variable",
    "weight": "--weight",
    "weight_groups": "--weight-groups",
    "weight_target": "--weight-target",
}
"""Argument of the library to option of the command line."""

# What is an object or an argument of the library is a file or several options here.
_PHRASES = {
    "`result.targets`": "targets.csv",
    "design= or replicates=": "--strata, --psu, --fpc or --replicates",
    "Hand over the Calibration, or replicates": "Give --targets, or --replicates",
}

# Names that are also words of plain English count only where a value follows, or in backquotes.
_NAMES = "|".join(sorted(FLAGS, key=len, reverse=True))
_SNAKES = "|".join(sorted((name for name in FLAGS if "_" in name), key=len, reverse=True))
# A text in double quotes is a user's name for something, and stays as it is.
_MENTION = re.compile(
    r'"[^"]*"'
    rf"|`(?P<quoted>{_NAMES})=?`"
    rf"|(?<![\w./\\-])(?P<given>{_NAMES})=(?P<plain>True\b|False\b|None\b)?"
    rf"|(?<![\w./\\-])(?P<alone>{_SNAKES})(?![./\\-]?\w)"
)


def in_flags(text: str) -> str:
    """A message of the library in the words of the command line.

    Examples:
        >>> in_flags("target_records=9 must be at most 5. Raise `max_iter`, or set groups=None.")
        '--records 9 must be at most 5. Raise `--max-iter`, or set --groups none.'
        >>> in_flags('target "kappa=1" pulls against the closeness of weights.')
        'target "kappa=1" pulls against the closeness of weights.'
    """
    for phrase, words in _PHRASES.items():
        text = text.replace(phrase, words)
    return _MENTION.sub(_as_flag, text)


def _as_flag(mention: re.Match[str]) -> str:
    if mention["quoted"]:
        return f"`{FLAGS[mention['quoted']]}`"
    if mention["alone"]:
        return FLAGS[mention["alone"]]
    if not mention["given"]:
        return mention[0]
    flag = FLAGS[mention["given"]]
    if mention["plain"] == "False":
        return flag.replace("--", "--no-", 1)
    return flag if mention["plain"] == "True" else f"{flag} {(mention['plain'] or '').lower()}"


def as_arguments(options: Mapping[str, Any]) -> list[str]:
    """Options of the library as arguments of `microcalibrate calibrate`; None is left out.

    Examples:
        >>> as_arguments({"l0_lambda": 0.01, "max_weight_ratio": None, "selection": "top_k"})
        ['--l0-lambda', '0.01', '--selection', 'top_k']
    """
    return [
        part
        for name, value in options.items()
        if value is not None
        for part in (FLAGS[name], str(value))
    ]
