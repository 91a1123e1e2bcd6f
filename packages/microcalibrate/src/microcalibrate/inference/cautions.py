"""Where a standard error is not the design-based one that users may take it for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microcalibrate.inference.replicate_weights import ReplicateWeights

if TYPE_CHECKING:
    from microcalibrate.calibration import Calibration
    from microcalibrate.inference.design import SurveyDesign

# These keep the records with the largest gates: nothing is drawn.
RULES = ("top_k", "sampled_gates")


class DesignVarianceWarning(UserWarning):
    """A design variance is not defined here, or not wholly known; the text says what is missing."""


def cautions_of(
    calibration: Calibration | None,
    design: SurveyDesign | None,
    replicates: ReplicateWeights | None,
) -> tuple[str, ...]:
    """What standard errors leave out, in sentences.

    Args:
        calibration: Where the weights come from; None for elsewhere.
        design: How the records were drawn, if that was said.
        replicates: Replicate weights, if there are any.
    """
    found = []
    if replicates is None and design is None:
        drawn, larger = "records", "Clusters"
        if calibration is not None and calibration.cluster_index is not None:
            drawn, larger = "clusters", "Larger units"
        found.append(
            f"no design was given: standard errors are those of {drawn} drawn each on its own, "
            f"with replacement. {larger} would make them larger, strata smaller: give design= or "
            "replicates=."
        )
    if calibration is None:
        if replicates is None:
            found.append(
                "the weights come from elsewhere and are taken as given: how they were made from "
                "the sample is not in the standard errors. Hand over the Calibration, or "
                "replicates."
            )
        return tuple(found)
    optimum = calibration.optimum
    if optimum.selection in RULES:
        found.append(
            f"records were kept by a rule (selection={optimum.selection!r}), not drawn: they are "
            "no probability sample, and a design variance is not defined. What is given is the "
            "spread with the kept records held; what leaving out the others does is not in it."
        )
    if not optimum.solution.status.is_certified:
        found.append(
            "the weights are not the optimum, and the standard errors are derived at the optimum: "
            "calibrate again with a higher max_iter."
        )
    return tuple(found)
