"""What the library says about its arguments, in the words of the command line."""

from __future__ import annotations

import inspect

import pytest

from microcalibrate import Calibration, analyse_targets, evaluate_robustness
from microcalibrate.cli.flags import FLAGS, in_flags


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("max_weight_ratio is negative.", "--max-ratio is negative."),
        ("give either l0_lambda (a price)", "give either --l0-lambda (a price)"),
        ("seed=-1 must be whole.", "--seed -1 must be whole."),
        ('set selection="closed_form".', 'set --selection "closed_form".'),
        ("one_standard_error=True", "--one-standard-error"),
        ("compare_with_random=False", "--no-random"),
        ("groups=None lets each stand alone", "--groups none lets each stand alone"),
        ("Raise `max_iter`, or look.", "Raise `--max-iter`, or look."),
        ("Set `seed=`.", "Set `--seed`."),
        ("look at `result.targets` for", "look at targets.csv for"),
        ("min_weight_ratio equals max_weight_ratio.", "--min-ratio equals --max-ratio."),
    ],
)
def test_an_argument_becomes_its_option(said: str, expected: str) -> None:
    assert in_flags(said) == expected


@pytest.mark.parametrize(
    "said",
    [
        'target "seed=3, n_folds" has no record',
        "the selection of records by closeness and distance",
        "runs/kappa=2/people.csv holds no max_iter.csv",
        "the column my_n_folds",
        "the seed of the draw",
    ],
)
def test_other_words_stay(said: str) -> None:
    assert in_flags(said) == said


@pytest.mark.parametrize("function", [Calibration, evaluate_robustness, analyse_targets])
def test_every_argument_of_the_library_with_an_option_is_known(function: object) -> None:
    """Those left are data, or have no option: nothing on the command line can be wrong in them."""
    data = {
        "weights",
        "targets",
        "estimate_matrix",
        "target_names",
        "importances",
        "scales",
        "record_ids",
        "differences",
        "quotients",
        "progress",
        "options",
    }
    names = set(inspect.signature(function).parameters)  # type: ignore[arg-type]

    assert names - data - set(FLAGS) == set()
