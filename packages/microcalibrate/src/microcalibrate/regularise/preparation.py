"""What is checked and prepared before the first round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from microcalibrate.arrays import Vector
from microcalibrate.errors import InvalidOption
from microcalibrate.evaluation.folds import target_folds, target_groups
from microcalibrate.problem import Problem
from microcalibrate.regularise.acceptance import Limits
from microcalibrate.regularise.codec import Codec
from microcalibrate.regularise.distances import LeastDistance, ratio_of
from microcalibrate.regularise.options import Options
from microcalibrate.regularise.spawn import Spawner
from microcalibrate.regularise.state import State, Yardstick
from microcalibrate.regularise.survey import Survey
from microcalibrate.regularise.target_rows import (
    BuildMatrix,
    CalculatedRows,
    DeclaredRows,
    as_vector,
)

MOST_FOLDS = 5


def checked_options(given: dict[str, Any]) -> Options:
    """Options from keywords.

    Raises:
        InvalidOption: If one is unknown or out of its range.
    """
    if "geography" in given and given["geography"] is not None:
        names = given["geography"]
        given = {**given, "geography": (names,) if isinstance(names, str) else tuple(names)}
    try:
        return Options(**given)
    except TypeError as error:
        known = ", ".join(Options.__dataclass_fields__)
        raise InvalidOption(f"{error}. Options are: {known}.") from error


def unpacked(
    model: Any, codec: Codec | None, survey: Survey, allow_poor_model: bool
) -> tuple[Any, Codec]:
    """Generator and codec of a model that was given as one or the other.

    Raises:
        InvalidOption: If they do not fit the survey or each other, or the model is poor.
    """
    generator = getattr(model, "generator", model)
    quality = getattr(model, "quality", None)
    if quality is not None and not quality.passed and not allow_poor_model:
        raise InvalidOption(
            "the quality report of the model failed, so what it draws would not pass for records "
            "of this survey. Train a better one, or set allow_poor_model=True."
        )
    found = codec or getattr(model, "codec", None) or Codec.fit(survey)
    if found.schema.hash != survey.schema.hash:
        raise InvalidOption(
            "the codec of the model has another schema than the survey. Train a model on it."
        )
    names = [column.name for column in generator.columns]
    if names != [column.name for column in found.columns]:
        raise InvalidOption(
            "the generator was fitted to other slot columns than the codec has. Give the `codec` "
            "whose rows it learned."
        )
    return generator, found


def spawner_of(
    model: Any, generator: Any, codec: Codec, survey: Survey, options: Options
) -> Spawner:
    """What draws offspring, which keep the distance from real records that the report asks for."""
    rows = codec.encode(survey)
    weights = as_vector(survey.base_weights.reindex(rows.index))
    ratio = ratio_of(model, generator.name)
    distance = None if ratio is None else LeastDistance.of(rows, codec.columns, weights, ratio)
    return Spawner(
        generator, codec, survey, options.structure, options.seed,
        borrow=options.borrow, distance=distance,
    )  # fmt: skip


def rows_builder(
    targets: Any, build_matrix: BuildMatrix | None, tolerances: Any, importances: Any, scales: Any
) -> DeclaredRows | CalculatedRows:
    """What gives the rows of units, from either kind of targets.

    Raises:
        InvalidOption: If an argument goes with the other kind.
    """
    if build_matrix is not None:
        return CalculatedRows(build_matrix, targets, tolerances, importances, scales)
    for name, value in (
        ("tolerances", tolerances),
        ("importances", importances),
        ("scales", scales),
    ):
        if value is not None:
            raise InvalidOption(
                f"{name} go with build_matrix. In a table of declared targets they are columns."
            )
    if hasattr(targets, "to_pandas"):
        targets = targets.to_pandas()
    if not isinstance(targets, pd.DataFrame):
        if isinstance(targets, Mapping):
            raise InvalidOption(
                "targets by name need `build_matrix`, which says what each unit adds to them. "
                "Or declare them in a table."
            )
        targets = pd.DataFrame(list(targets))
    return DeclaredRows(targets.reset_index(drop=True))


def prior_weights(survey: Survey, options: Options) -> Vector:
    """Weights that recalibration starts from, shape `(n_units,)`.

    Raises:
        InvalidOption: If base weights would drop units that have a weight.
    """
    weights = as_vector(survey.weights)
    if options.prior == "weights":
        return weights
    base = as_vector(survey.base_weights)
    lost = int(((base == 0) & (weights > 0)).sum())
    if lost:
        raise InvalidOption(
            f'prior="base", but {lost} units have a weight and no base weight, and recalibration '
            'would drop them. Use prior="weights", or mend the base weights.'
        )
    return base


def held_out_folds(problem: Problem, options: Options) -> tuple[Any, ...]:
    """Targets that are held out together; none where there are too few groups of them."""
    n_groups = int(target_groups(problem).max()) + 1
    wanted = options.n_folds
    if wanted is None:
        wanted = min(MOST_FOLDS, n_groups)
        wanted = wanted if wanted > 1 else 0
    if wanted == 0:
        return ()
    return target_folds(problem, None, wanted, seed=options.seed)


def measured_start(start: State, problem: Problem, yardstick: Yardstick, limits: Limits) -> State:
    """The first state with its held-out loss, once it is known that a round could be kept.

    Raises:
        InvalidOption: If recalibration alone fits the targets worse than a round may.
        InfeasibleTargets: If hard targets cannot hold even without a cap.
    """
    free = replace(yardstick, cap=None)
    alone = free.recalibrated(start.prior, start.matrix)
    loss = yardstick.target_loss(alone.weights, start.matrix)
    allowed = max((1 + limits.target_loss) * start.target_loss, limits.met**2)
    if loss > allowed:
        raise InvalidOption(
            f"entropy_lambda={yardstick.entropy_lambda:g} is too high for these weights: "
            f"recalibrating the survey as it is misses its targets by {np.sqrt(loss):.2%} (root "
            f"mean square), its weights by {np.sqrt(start.target_loss):.2%}, so no round could be "
            'kept. Lower entropy_lambda, or use prior="weights".'
        )
    return replace(start, held_out_loss=yardstick.held_out_loss(problem, alone.prices)[0])
