"""A trained model as it is kept: the generator, the codec of its rows, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.arrays import Vector
from microcalibrate.atomic import PathLike, run_folder
from microcalibrate.diagnostics.frame import records_of
from microcalibrate.errors import InvalidOption, ModelMismatch
from microcalibrate.io import read_json, write_json
from microcalibrate.regularise.codec import Codec
from microcalibrate.regularise.generators import BACKENDS, load_generator, make_generator
from microcalibrate.regularise.quality import QualityReport, Sample, check_generator
from microcalibrate.regularise.survey import Survey
from microcalibrate.result import installed_versions
from microcalibrate.saved_values import complete, read_values

if TYPE_CHECKING:
    from microcalibrate.regularise.generators import Generator

FORMAT = "microcalibrate.model/1"
MODEL_FILE = "trained.json"
LEAST_HELD_OUT = 20
"""Fewer units than this say nothing about how well a model meets what it has not seen."""


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A generator, the codec of the rows that it learned, and the report on its quality.

    Attributes:
        generator: Fitted; of any backend.
        codec: Turns households of the schema into its rows and back.
        quality: What its draws are worth beside households that it has not seen.
        settings: Every option of the training.
        versions: Of this package and of what it computes with.
    """

    generator: Generator
    codec: Codec
    quality: QualityReport
    settings: dict[str, Any]
    versions: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether its quality passed all gates."""
        return bool(self.quality.passed)

    def summary(self) -> str:
        """The model and its quality in a few lines; the first is the verdict."""
        settings = self.settings
        trained = (
            f"{settings['backend']} was trained on {settings['n_trained']:,} "
            f"{records_of(settings['unit'])} of {len(self.codec.columns):,} columns and checked on "
            f"{settings['n_held_out']:,} that it has not seen."
        )
        left_out = self.codec.n_too_large
        if left_out:
            trained += (
                f" {left_out:,} larger ones ({self.codec.weight_too_large:.2%} of the weight) are "
                "left out, and never generated."
            )
        return f"{self.quality.summary()}\n{trained}"

    # --- Files ------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the model into a folder, whole or not at all; nothing in it can run code.

        Args:
            folder: New, empty, or of an earlier run, which is replaced.

        Returns:
            The folder.

        Raises:
            UnwritableFile: If it cannot be written; nothing is left half done.
            InvalidSchema: If a column is calculated by a Python function.
        """
        with run_folder(folder) as fresh:
            write_json(self.codec.to_json(), fresh / "codec.json")
            self.generator.save(fresh / "generator")
            self.quality.save(fresh / "quality")
            write_json(
                {
                    "format": FORMAT,
                    "schema_hash": self.codec.schema.hash,
                    "passed": self.passed,
                    "settings": self.settings,
                    "versions": self.versions,
                },
                fresh / MODEL_FILE,
            )
        return Path(folder)

    @classmethod
    def load(cls, folder: PathLike, *, other_versions: bool = False) -> TrainedModel:
        """Read what `save` wrote.

        Args:
            folder: A model's folder.
            other_versions: Take a model that was written with other versions of what it computes
                with; it may then draw other households.

        Returns:
            The model, equal to the saved one.

        Raises:
            UnreadableFile: If a file is missing or damaged, or of another version.
            ModelMismatch: If its parts do not belong together, or its versions are others.
        """
        root = Path(folder)
        about = read_values(root / MODEL_FILE, FORMAT, "Train the model again.")
        codec = Codec.from_json(read_json(root / "codec.json"))
        if codec.schema.hash != about.get("schema_hash"):
            raise ModelMismatch(
                f"{root}: codec.json has another schema than {MODEL_FILE}. Train the model again."
            )
        generator = load_generator(root / "generator", codec.columns, other_versions=other_versions)
        with complete(root / MODEL_FILE, "Train the model again."):
            settings, versions = about["settings"], about["versions"]
        return cls(generator, codec, QualityReport.load(root / "quality"), settings, versions)

    def check_schema(self, survey: Survey) -> None:
        """Refuse a survey of another schema than the model was trained on.

        Raises:
            ModelMismatch: If the schemas differ.
        """
        if survey.schema.hash != self.codec.schema.hash:
            raise ModelMismatch(
                "the model was trained on tables of another schema than these. Train it on these, "
                "or give the schema that it was trained with."
            )

    def report(self, path: str | Path) -> Path:
        """Write a page with what the model's draws are worth; see `QualityReport.report`."""
        return self.quality.report(Path(path))


def train_model(
    survey: Survey,
    backend: str = "anyorder",
    *,
    seed: int = 0,
    held_out: float = 0.2,
    coverage: float = 0.999,
    progress: Callable[[int, float], None] | None = None,
    **options: Any,
) -> TrainedModel:
    """Train a generator on part of a survey, and check what it draws beside the rest.

    Units are held out whole, so that no person of a household that is checked was learned. The
    weights of the training are those of the sampling design.

    Args:
        survey: Households to learn.
        backend: Name of the generator: "anyorder", "hotdeck" or "sdv-tvae".
        seed: Of the split, the training and the draws that are checked.
        held_out: Fraction of the units that is held out, in `(0, 0.5]`.
        coverage: Share of the weight whose units must fit into the rows; see `Codec.fit`.
        progress: Called with the number of each epoch and its held-out loss.
        **options: Of the generator.

    Returns:
        The model with its quality report, whatever that says.

    Raises:
        InvalidOption: If an option is out of its range, there is no such backend, or too few units
            are held out.
        ConditionNotMet: If hardly any household that it draws is possible.
        MissingExtra: If a library that the backend needs is not installed.
    """
    if backend not in BACKENDS:
        raise InvalidOption(f"backend={backend!r} must be one of {', '.join(BACKENDS)}.")
    if not 0 < held_out <= 0.5:
        raise InvalidOption(f"held_out={held_out} must be a fraction above 0, at most 0.5.")
    generator = make_generator(backend, **options)
    codec = Codec.fit(survey, coverage)
    rows = codec.encode(survey)
    n_held_out = round(held_out * len(rows))
    if n_held_out < LEAST_HELD_OUT:
        raise InvalidOption(
            f"held_out={held_out} leaves {n_held_out} of {len(rows):,} {survey.unit} rows to check "
            f"a model on, and that needs at least {LEAST_HELD_OUT}. Raise it, or give more rows."
        )
    splitting, fitting, checking = np.random.SeedSequence(seed).spawn(3)
    order = np.random.default_rng(splitting).permutation(len(rows))
    weights: Vector = np.asarray(survey.base_weights.loc[rows.index], dtype=np.float64)
    held, kept = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
    fitted = generator.fit(
        rows.iloc[kept], codec.columns, weights[kept], _drawn(fitting), progress=progress
    )
    quality = check_generator(
        fitted,
        Sample(rows.iloc[kept], weights[kept]),
        Sample(rows.iloc[held], weights[held]),
        codec.columns,
        codec=codec,
        source=survey,
        seed=_drawn(checking),
    )
    settings = {
        "backend": backend,
        "seed": int(seed),
        "held_out": held_out,
        "coverage": coverage,
        "unit": survey.unit,
        "n_trained": len(kept),
        "n_held_out": len(held),
        "n_too_large": codec.n_too_large,
        "weight_too_large": codec.weight_too_large,
        "slots": dict(codec.n_slots),
        **options,
    }
    return TrainedModel(fitted, codec, quality, settings, installed_versions())


def _drawn(sequence: np.random.SeedSequence) -> int:
    """A seed of its own for a task, as one number."""
    return int(sequence.generate_state(1, np.uint32)[0])
