"""What tuning found: every trial, the best, the front, and what to make of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microcalibrate.errors import InvalidOption, NoFinishedTrial, UnreadableFile
from microcalibrate.hyperparameter_tuning import verdict
from microcalibrate.hyperparameter_tuning.saved_study import study_as_plain, study_from_plain
from microcalibrate.hyperparameter_tuning.scoring import (
    best_of,
    one_standard_error,
    pareto_front,
)
from microcalibrate.hyperparameter_tuning.storage import opened_storage, quiet_optuna
from microcalibrate.hyperparameter_tuning.tables import (
    BALANCED,
    FIGURES,
    FORMAT,
    checked_attributes,
    folds_table,
    load_optuna,
    trials_table,
)

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from plotly.graph_objects import Figure

STATUSES = ("finished", "timed out", "cancelled", "loaded")
"""How tuning ended; "loaded" is a study that was read from its storage, and may still go on."""

# Optuna's estimate compares the best tenth of the trials, five at least, with all.
LEAST_TRIALS = 20
TOP_TRIALS = 5
TOP_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class TuningResult:
    """What `tune_hyperparameters` found.

    Errors are absolute, relative to the scale of their target, capped at 1 each, and the mean over
    the targets of a fold.

    Attributes:
        study: The Optuna study.
        trials: One row per trial of any state: `number`, `state` (of Optuna), the parameters as
            columns (`l0_lambda` and what else was searched); for finished ones `score`,
            `held_out_error` (over folds, aggregated as was asked), `standard_error` (of its mean
            over folds), `train_error` (of the targets calibrated to), `gap` (held-out less
            train), `within_10_percent` (share of held-out targets), `records` and `kish` (mean
            over folds), `seconds`; `seed` (of the draws), `infeasible` (why exact or banded
            targets could not hold, or an empty text), `error` (why else it failed), `on_front`,
            `best`.
        fold_errors: One row per finished trial and fold: `number`, `fold`, `held_out_error`,
            `train_error`, `within_10_percent`, `records`, `kish`, `status` of the solve.
        best: The trial chosen: its number, parameters, figures and seed, by name.
        lowest: The trial with the lowest score or, for the Pareto front, held-out error, likewise.
        one_standard_error: The trial that the one-standard-error rule chooses from there: `best`
            is this one or `lowest`, as was asked.
        status: "finished", "timed out", "cancelled", or "loaded" from a storage.
        settings: Objective, folds, weights of the score and all fixed options.
    """

    study: optuna.Study
    trials: pd.DataFrame
    fold_errors: pd.DataFrame
    best: dict[str, Any]
    lowest: dict[str, Any]
    one_standard_error: dict[str, Any]
    status: str
    settings: dict[str, Any]

    @classmethod
    def from_study(cls, study: optuna.Study, status: str = "finished") -> TuningResult:
        """Read a study, of which some trials may have failed or be still running.

        The best trial has the lowest score or, where the objective is the Pareto front, the
        smallest held-out error. With the study's `one_standard_error`, it is the one with the
        fewest records whose held-out error is within one standard error of that trial's.

        Args:
            study: One that `tune_hyperparameters` made.
            status: How tuning ended: "finished", "timed out", "cancelled" or "loaded".

        Raises:
            InvalidOption: If the study is another one, or `status` is not known.
            NoFinishedTrial: If no trial has finished.
        """
        if status not in STATUSES:
            raise InvalidOption(f"status={status!r} is not known. Use one of {list(STATUSES)}.")
        attributes = checked_attributes(study)
        settings = {**attributes.get("settings", {}), **attributes}
        settings.pop("settings", None)
        trials, folds = trials_table(study), folds_table(study)
        done = trials[trials.state == "COMPLETE"]
        if done.empty:
            raise NoFinishedTrial(verdict.why_none(study.study_name, trials))
        goal = done.score if settings["objective"] == BALANCED else done.held_out_error
        lowest = best_of(goal, done.records)
        sparse = one_standard_error(done.held_out_error, done.standard_error, done.records, lowest)
        chosen = sparse if settings.get("one_standard_error") else lowest
        front = done.number[pareto_front(done.held_out_error, done.records)]
        trials["on_front"] = trials.number.isin(front)
        trials["best"] = trials.number == done.number.iloc[chosen]

        def row(position: int) -> dict[str, Any]:
            found = done.iloc[position]
            number, seed = int(found.number), found.seed
            return {
                "number": number,
                **study.get_trials(deepcopy=False)[number].params,
                **{name: float(found[name]) for name in FIGURES},
                "seed": None if seed != seed or seed is None else int(seed),
            }

        return cls(
            study=study,
            trials=trials,
            fold_errors=folds,
            best=row(chosen),
            lowest=row(lowest),
            one_standard_error=row(sparse),
            status=status,
            settings=settings,
        )

    @classmethod
    def load(cls, source: Any, study_name: str | None = None) -> TuningResult:
        """Read a folder that `save` wrote, or a study from the storage that was tuned with.

        Args:
            source: A folder of `save`; or a storage as `tune_hyperparameters` takes it (URL, path
                of a journal file, or Optuna storage), whose study may still be going on.
            study_name: Which study of a storage; None where it holds only one.

        Returns:
            The result, with the status that was saved, or "loaded" from a storage.

        Raises:
            UnreadableFile: If a folder is not complete or of another version, or nothing is there.
            InvalidOption: If the storage holds no such study, or one that is not of tuning.
            NoFinishedTrial: If no trial has finished.
        """
        if isinstance(source, (str, Path)) and Path(source).is_dir():
            if study_name is not None:
                raise InvalidOption(
                    f"study_name={study_name!r} is for a storage, and {source} is a folder of one "
                    "saved study. Leave it out."
                )
            return cls._from_folder(Path(source))
        is_file = isinstance(source, (str, Path)) and "://" not in str(source)
        if is_file and not Path(source).exists():
            # Opening a journal that does not exist would make one.
            raise UnreadableFile(
                f"{source} is neither a folder of a saved tuning nor the journal file of a study: "
                "there is nothing of that name."
            )
        optuna, storage = load_optuna(), opened_storage(source)
        try:
            with quiet_optuna():
                study = optuna.load_study(study_name=study_name, storage=storage)
        except (KeyError, ValueError) as error:
            known = sorted(found.study_name for found in storage.get_all_studies())
            raise InvalidOption(
                f"study_name={study_name!r} is not one study of this storage, which has "
                f"{known or 'none'}. Name one of them."
            ) from error
        return cls.from_study(study, "loaded")

    @classmethod
    def _from_folder(cls, folder: Path) -> TuningResult:
        from microcalibrate.saved_values import complete, read_values

        file = folder / "tuning.json"
        values = read_values(file, FORMAT, "Open it with the version that wrote it.")
        with complete(file, "Save the study again."):
            return cls.from_study(study_from_plain(values["study"]), values["status"])

    @property
    def best_lambda(self) -> float:
        """Price of records of the best trial."""
        return float(self.best["l0_lambda"])

    @property
    def best_params(self) -> dict[str, Any]:
        """What was searched, at the best trial: options of `Calibration` by name."""
        return dict(self.study.get_trials(deepcopy=False)[self.best["number"]].params)

    @property
    def front(self) -> pd.DataFrame:
        """Trials that no other beats in both held-out error and records, fewest records first."""
        return self.trials[self.trials.on_front].sort_values("records", ignore_index=True)

    def importances(self) -> dict[str, float]:
        """How much each parameter that was searched matters to be among the best trials.

        PED-ANOVA (Watanabe, Bansal and Hutter 2023) in Optuna's implementation: how far the values
        of a parameter in the best trials are from those in all. For the Pareto front, the best are
        those nearest to it.

        Returns:
            Shares that sum to 1, by name, the largest first.

        Raises:
            InvalidOption: If there is nothing to compare: one parameter, too few finished trials,
                or no difference between them; the message says which.
        """
        optuna = load_optuna()
        finished = (optuna.trial.TrialState.COMPLETE,)
        done = self.study.get_trials(deepcopy=False, states=finished)
        ranges = done[0].distributions
        varied = sorted(
            name
            for name, distribution in ranges.items()
            if not distribution.single()
            and all(trial.distributions.get(name) == distribution for trial in done)
        )
        if len(varied) < 2:
            raise InvalidOption(
                f"only {varied[0]} was searched" if varied else "no parameter was searched"
            )
        if len(done) < LEAST_TRIALS:
            raise InvalidOption(f"{len(done)} trials finished, and {LEAST_TRIALS} are needed")
        if len({tuple(trial.values) for trial in done}) == 1:
            raise InvalidOption("all trials are equally good")
        share = max(TOP_SHARE, TOP_TRIALS / len(done))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
        found = optuna.importance.get_param_importances(
            self.study, evaluator=evaluator, params=varied
        )
        return {name: float(value) for name, value in found.items()}

    def advice(self) -> tuple[str, ...]:
        """What to do next, one sentence each: wider ranges, more trials, targets in conflict."""
        return verdict.advice(self)

    def summary(self) -> str:
        """A few lines for people: what was tried, what came out, and what to do next."""
        return verdict.summary(self)

    def save(self, folder: str | Path) -> Path:
        """Write tables as CSV, and the whole study with the summary as `tuning.json`.

        Args:
            folder: Where to; made if it does not exist. A former run there is replaced as a
                whole, and only once the new one is complete.

        Returns:
            The folder, with `trials.csv`, `folds.csv`, `front.csv` and `tuning.json`.

        Raises:
            UnwritableFile: If it cannot be written; nothing is left half done.
        """
        from microcalibrate.atomic import run_folder

        with run_folder(folder) as fresh:
            self.write_into(fresh)
        return Path(folder)

    def write_into(self, folder: Path) -> None:
        """Write the files of `save` into a folder that exists."""
        from microcalibrate.io import write_json, write_table

        write_table(self.trials, folder / "trials.csv", guard_formulas=True)
        write_table(self.fold_errors, folder / "folds.csv", guard_formulas=True)
        write_table(self.front, folder / "front.csv", guard_formulas=True)
        values = {
            "format": FORMAT,
            "status": self.status,
            "best": _without_nan(self.best),
            "lowest": _without_nan(self.lowest),
            "one_standard_error": _without_nan(self.one_standard_error),
            "summary": self.summary().splitlines(),
            "settings": self.settings,
            "study": study_as_plain(self.study),
        }
        write_json(values, folder / "tuning.json")

    def plot_history(self) -> Figure:
        """Every trial in order, and the best so far."""
        from microcalibrate.figures import tuning as figures

        return figures.history(self)

    def plot_importance(self) -> Figure:
        """How much each parameter matters."""
        from microcalibrate.figures import tuning as figures

        return figures.importance(self)

    def plot_front(self) -> Figure:
        """Held-out error against records."""
        from microcalibrate.figures import tuning as figures

        return figures.front(self)

    def plot_folds(self) -> Figure:
        """Held-out error of each fold against the price of records."""
        from microcalibrate.figures import tuning as figures

        return figures.folds(self)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML page that works without a network.

        Args:
            path: File to write.

        Returns:
            The path.

        Raises:
            MissingExtra: If Plotly is not installed.
            UnwritableFile: If the file cannot be written.
        """
        from microcalibrate.reports.tuning import write_tuning_report

        return write_tuning_report(self, Path(path))


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what is not known is null."""
    return {name: None if value != value else value for name, value in values.items()}
