"""What recalibration alone does: the comparison that rounds are judged beside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from microcalibrate.errors import InfeasibleTargets, NotConverged
from microcalibrate.regularise.acceptance import objections
from microcalibrate.regularise.history import COUNTS
from microcalibrate.regularise.rounds import Loop
from microcalibrate.regularise.spreading import Spread
from microcalibrate.regularise.state import State


def calibrated(loop: Loop, start: State) -> tuple[State | None, dict[str, Any]]:
    """The survey as it came, recalibrated: without it, nobody knows what spreading did.

    Args:
        loop: What rounds are run with.
        start: The survey as it came.

    Returns:
        The state, None where the targets cannot hold without spreading; and its row of the
        history, compared with the survey as it came.

    Raises:
        InvalidTargetTable: If no record contributes to a target.
    """
    footing, none = loop.yardstick.footing, np.zeros(0, dtype=start.lineage.dtype)
    flagged = footing.flagged(start.diagnosis)
    origins = start.lineage[start.survey.unit_ids.isin(flagged)]
    bare = Spread(
        survey=start.survey,
        prior=start.prior,
        matrix=start.matrix,
        evaluated=start.evaluated,
        units=none,
        origins=origins,
        offspring=pd.DataFrame({"id": [], "source": [], "fraction": [], "achieved": []}),
        share_near=float("nan"),
    )
    reason, after = "", None
    try:
        after = loop.recalibrated(bare, start)
        if after.target_loss > max(
            (1 + loop.limits.target_loss) * start.target_loss, loop.limits.met**2
        ):
            # Bounds on weights cost too much fit: without them, then.
            after = loop.recalibrated(bare)
    except (InfeasibleTargets, NotConverged) as error:
        reason = str(error).rstrip(".")
    before = start.measures(flagged, origins, footing)
    measured = None if after is None else after.measures(flagged, origins, footing)
    if measured is not None:
        reason = "; ".join(objections(before, measured, loop.limits))
    row = {
        **loop.figures(after or start, after, before, measured),
        **dict.fromkeys(COUNTS, 0),
        "accepted": not reason,
        "reason": reason,
        "share_near": np.nan,
        "n_flagged_before": len(flagged),
    }
    return after, row
