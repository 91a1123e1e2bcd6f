"""Replicates, each calibrated anew: the weights that other samples would have been given."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from microcalibrate.arrays import is_sparse
from microcalibrate.calibration import Calibration
from microcalibrate.engine.optimum import Optimum
from microcalibrate.engine.resolving import Resolver
from microcalibrate.errors import (
    InfeasibleReplicate,
    InfeasibleTargets,
    InvalidOption,
    InvalidReplicates,
    NotConverged,
)
from microcalibrate.inference.cautions import DesignVarianceWarning
from microcalibrate.inference.members import Members
from microcalibrate.inference.replicate_weights import ReplicateWeights
from microcalibrate.inference.replication import Replication
from microcalibrate.progress import Bar

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

ON_FAILURE = ("raise", "drop")
# Their replicates are alike, so that the others can stand for one that fails.
EXCHANGEABLE = ("bootstrap",)
FORMAT = "microcalibrate.replicate_parts/1"

Outcome = Vector | InfeasibleTargets | NotConverged


def replicate_weights(
    calibration: Calibration,
    replication: Replication,
    *,
    on_failure: str = "raise",
    n_jobs: int = 1,
    folder: str | Path | None = None,
    progress: bool | None = None,
) -> ReplicateWeights:
    """Replicate weights, each replicate calibrated to the same targets.

    Each starts from the prices of the whole sample, and clusters stay what they are. Where records
    were chosen, the same ones are calibrated in each replicate, from where the draw started them:
    the choice is taken as it fell, as a stage of sampling within the units.

    Args:
        calibration: After `calibrate()`.
        replication: How the design is replicated: `Replication.jackknife(design, data)`,
            `.bootstrap`, `.balanced`, or `.of_weights` for replicate weights that came with the
            data.
        on_failure: What to do where exact or banded targets cannot hold in a replicate: "raise",
            or for the bootstrap "drop" it, with a warning.
        n_jobs: Threads. One solve of many targets uses all cores by itself; more threads help
            where there are few.
        folder: Where finished replicates are kept. The same call with the same folder goes on
            where an earlier one was cancelled.
        progress: Whether to show a bar; None shows it on a terminal.

    Returns:
        Weights of all records and replicates; rows of records that were not chosen are zero.

    Raises:
        InfeasibleReplicate: If hard targets cannot hold in a replicate.
        NotConverged: If a replicate ended without its certificate.
        InvalidReplicates: If the replication is of other records, or tears clusters apart that
            have one ratio, or the folder has replicates of another calibration.
        KeyboardInterrupt: If cancelled. With a folder, what is done lies there.

    Examples:
        >>> from microcalibrate.inference import Replication, SurveyDesign
        >>> cal = Calibration([1.0, 1.0, 1.0], [4.0], [[1.0], [1.0], [0.0]], tolerances=0)
        >>> _ = cal.calibrate()
        >>> design = SurveyDesign()
        >>> replicates = replicate_weights(cal, Replication.jackknife(design, n_records=3))
        >>> replicates.weights
        array([[0. , 4. , 2. ],
               [4. , 0. , 2. ],
               [1.5, 1.5, 0. ]])
    """
    members = Members.of(calibration)
    optimum = members.optimum
    _check(members, replication, on_failure, n_jobs)
    n_replicates = replication.n_replicates
    parts = _Parts(folder, members, replication)
    weights = np.zeros((members.n_records, n_replicates))
    failed: list[int] = []
    resolver = Resolver(optimum)
    with Bar(progress, "replicates", "replicates", total=n_replicates) as bar:
        done = 0
        for start, outcomes in _solved(resolver, replication, members, parts, n_jobs):
            kept = _kept(start, outcomes, optimum, on_failure, failed)
            weights[:, start : start + kept.shape[1]] = members.shared_out(kept)
            parts.keep(start, kept)
            done += kept.shape[1]
            bar.to(done, failed=len(failed))
    failed = sorted({*failed, *parts.failed(weights)})
    scale = replication.scale
    if n_replicates - len(failed) < 2:
        raise InvalidReplicates(
            f"hard targets cannot hold in {len(failed)} of {n_replicates} replicates, and a "
            "variance needs two in which they do. Give tolerances, widen the bounds on the ratio, "
            "or make targets soft."
        )
    if failed:
        warnings.warn(
            f"{len(failed)} of {n_replicates} replicates were left out: hard targets cannot hold "
            "in them. The others have less variety than all would have, so that standard errors "
            "are on the low side; give tolerances, or make targets soft.",
            DesignVarianceWarning,
            stacklevel=2,
        )
        weights = np.delete(weights, failed, axis=1)
        scale *= (n_replicates - 1) / max(n_replicates - len(failed) - 1, 1)
    return ReplicateWeights(
        full=members.weights,
        weights=weights,
        scale=scale,
        rscales=np.delete(replication.rscales, failed),
        type=replication.type,
        freedom=min(replication.freedom, n_replicates - len(failed) - 1)
        if failed
        else replication.freedom,
        centre=replication.centre,
        failed=tuple(failed),
    )


def _check(members: Members, replication: Replication, on_failure: str, n_jobs: int) -> None:
    if on_failure not in ON_FAILURE:
        raise InvalidOption(
            f"on_failure={on_failure!r} is not known. Use one of {list(ON_FAILURE)}."
        )
    if on_failure == "drop" and replication.type not in EXCHANGEABLE:
        raise InvalidOption(
            f"on_failure='drop' is for the bootstrap: each {replication.type} replicate has a part "
            "in the variance that no other one can stand for. Make targets soft, or use the "
            "bootstrap."
        )
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, (int, np.integer)) or n_jobs < 1:
        raise InvalidOption(f"n_jobs={n_jobs!r} must be a whole number from 1.")
    if len(replication.unit) != members.n_records:
        raise InvalidReplicates(
            f"the replication is of {len(replication.unit)} records, and the calibration of "
            f"{members.n_records}."
        )
    if (replication.factors < 0).any():
        raise InvalidReplicates("a factor of the replication is negative.")


def _solved(
    resolver: Resolver,
    replication: Replication,
    members: Members,
    parts: _Parts,
    n_jobs: int,
) -> Iterator[tuple[int, list[Outcome] | Matrix]]:
    """Blocks of replicates as they are done: the first one's position, and what came out."""
    starts = list(range(0, replication.n_replicates, resolver.block))
    todo = []
    for start in starts:
        found = parts.found(start)
        if found is None:
            todo.append(start)
        else:
            yield start, found
    unit = members.units(replication)

    def work(start: int) -> list[Outcome]:
        factors = replication.factors[unit, start : start + resolver.block]
        return list(resolver.outcomes(factors))

    if n_jobs == 1:
        for start in todo:
            yield start, work(start)
        return
    with ThreadPoolExecutor(n_jobs) as pool:
        # Few at a time, so that a cancelled run does not go on with what was only queued.
        running: dict[Future[list[Outcome]], int] = {}
        queue = iter(todo)
        try:
            while True:
                for start in islice(queue, n_jobs - len(running)):
                    running[pool.submit(work, start)] = start
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()


def _kept(
    start: int,
    outcomes: list[Outcome] | Matrix,
    optimum: Optimum,
    on_failure: str,
    failed: list[int],
) -> Matrix:
    """Weights of a block, NaN for replicates that failed and are dropped."""
    if isinstance(outcomes, np.ndarray):
        return outcomes
    kept = np.empty((len(optimum.record_index), len(outcomes)))
    for column, outcome in enumerate(outcomes):
        if not isinstance(outcome, Exception):
            kept[:, column] = outcome
            continue
        number = start + column
        if on_failure == "raise":
            raise _said(outcome, number)
        failed.append(number)
        kept[:, column] = np.nan
    return kept


def _said(error: InfeasibleTargets | NotConverged, replicate: int) -> Exception:
    if isinstance(error, NotConverged):
        return NotConverged(f"replicate {replicate}: {error}", result=error.result)
    return InfeasibleReplicate(
        f"replicate {replicate}: {error} In a replicate some records are left out. Make these "
        "targets soft, or for the bootstrap set on_failure='drop'.",
        replicate=replicate,
        relaxation=error.relaxation,
        conflict=error.conflict,
        result=error.result,
    )


class _Parts:
    """Finished blocks in a folder, each written whole; nothing where no folder was asked for."""

    def __init__(
        self, folder: str | Path | None, members: Members, replication: Replication
    ) -> None:
        self._folder = None if folder is None else Path(folder)
        if self._folder is None:
            return
        from microcalibrate.io import read_json, write_json

        told = {"format": FORMAT, "fingerprint": _fingerprint(members, replication)}
        place = self._folder / "replication.json"
        if place.exists():
            if read_json(place) != told:
                raise InvalidReplicates(
                    f"{self._folder} has replicates of another calibration, or of another "
                    "replication. Choose another folder, or delete it."
                )
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(told, place)

    def _place(self, start: int) -> Path:
        assert self._folder is not None
        return self._folder / f"from_{start:06}.npy"

    def found(self, start: int) -> Matrix | None:
        """Weights of a block that was done before."""
        if self._folder is None or not self._place(start).exists():
            return None
        return np.asarray(np.load(self._place(start), allow_pickle=False))

    def keep(self, start: int, weights: Matrix) -> None:
        """Write a block that is done."""
        if self._folder is None or self._place(start).exists():
            return
        from microcalibrate.atomic import atomic_path

        with atomic_path(self._place(start)) as path, path.open("wb") as file:
            np.save(file, weights)

    def failed(self, weights: Matrix) -> list[int]:
        """Replicates that an earlier run had to drop."""
        return np.flatnonzero(np.isnan(weights).any(axis=0)).tolist()


def _fingerprint(members: Members, replication: Replication) -> str:
    """Of all that the weights of replicates follow from."""
    optimum, found = members.optimum, hashlib.sha256()
    problem = optimum.problem
    matrix = problem.estimate_matrix
    data: Any = (matrix.data, matrix.indices) if is_sparse(matrix) else (matrix,)
    arrays = (
        *data,
        problem.design_weights,
        problem.targets,
        problem.scales,
        problem.tolerances,
        problem.importances,
        problem.lower_ratio,
        problem.upper_ratio,
        problem.heteroscedasticity,
        optimum.record_index,
        replication.factors,
        replication.unit,
        *(() if members.cluster is None else (members.cluster,)),
    )
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    found.update(f"{optimum.distance.name} {optimum.loss} {optimum.closeness!r}".encode())
    return found.hexdigest()
