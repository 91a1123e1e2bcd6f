"""Regularise: records that carry too much are spread over generated ones, round by round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from microcalibrate.dashboard import links, option_widgets, parts, reforms_field, survey_setup
from microcalibrate.dashboard.launching import Job, offered, start
from microcalibrate.dashboard.option_schema import arguments
from microcalibrate.dashboard.saved import saved, show
from microcalibrate.dashboard.screen import Screen

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.dashboard.outcomes import Outcome
    from microcalibrate.dashboard.surveys import SurveyFolder
    from microcalibrate.jobs import Run

KINDS = ("regularisation", "trained model")
OF_ONE_MACHINE = "sdv"
"""How backends are called whose licence lets nobody offer them to others over a network."""
TRAIN_SHOWN = ("backend", "seed", "epochs", "held_out", "coverage")
SHOWN = (
    "threshold",
    "flag_dominating",
    "seed",
    "max_rounds",
    "batch",
    "mode",
    "n_reforms",
    "structure",
    "allow_poor_model",
)
ABOUT = (
    "First a model learns what households look like; then each record that carries too much is "
    "replaced by some that the model draws, and the weights are fitted anew. A round is kept only "
    "where it helps. Generated records are no respondents, and are marked in every table."
)


def render(context: Context) -> None:
    """Draw the screen."""
    halves: dict[str, Callable[[], None]] = {
        "Survey": lambda: survey_setup.draw(context),
        "Train a model": lambda: _train(context),
        "Regularise": lambda: _regularise(context),
    }
    if context.outcomes(*KINDS):
        halves = {"Results": lambda: _results(context), **halves}
    else:
        parts.note(ABOUT)
    parts.tabs(halves, key="view")


def _results(context: Context) -> None:
    outcome = context.outcome(*KINDS)
    if outcome is not None:
        show(saved(outcome))


# --- Forms ----------------------------------------------------------------------------------------


def _train(context: Context) -> None:
    with parts.told():
        survey = survey_setup.ready(context)
        if survey is None:
            return
        options = offered("train")
        if context.is_remote:
            backend = options["backend"]
            allowed = tuple(each for each in backend.choices if not _is_of_one_machine(each))
            options["backend"] = replace(backend, choices=allowed)
        values = option_widgets.fields("train", options, TRAIN_SHOWN)
        if not option_widgets.is_complete(options, values):
            parts.notice("Not yet.", "A field above cannot be read.")
            return
        if values["epochs"] is not None and values["backend"] not in (None, "anyorder"):
            parts.notice("Not yet.", "Epochs are for the backend anyorder: leave them blank.")
            return
        job = Job(
            "train",
            [str(survey.tables), "--out", "{run}/result", *arguments(options, values)],
            f"model of {survey.name}",
            details={"survey": survey.id, "values": values},
        )
        start(context, job, "Train", survey=survey.id)


def _backend(run: Run) -> str:
    return str(run.details.get("values", {}).get("backend") or "")


def _is_of_one_machine(backend: str) -> bool:
    return backend.startswith(OF_ONE_MACHINE)


def _regularise(context: Context) -> None:
    with parts.told():
        survey = survey_setup.ready(context)
        if survey is None:
            return
        if not survey.targets_file.is_file():
            parts.notice("Not yet.", "The survey has no targets: take them in on the tab Survey.")
            return
        model = _model(context, survey)
        if model is None:
            return
        _fill_in(context, survey, model)


def _model(context: Context, survey: SurveyFolder) -> Outcome | None:
    """A model that was trained on this survey, to be chosen."""
    found = {
        each.id: each
        for each in context.outcomes("trained model")
        if each.run is not None and each.run.details.get("survey") == survey.id
        if not (context.is_remote and _is_of_one_machine(_backend(each.run)))
    }
    if not found:
        parts.notice("Not yet.", "No model was trained on this survey: see the tab Train a model.")
        return None
    names = {key: each.name for key, each in found.items()}
    return found[links.choose("Model", names, "model")]


def _fill_in(context: Context, survey: SurveyFolder, model: Outcome) -> None:
    has_passed = bool(saved(model).result.passed)
    if not has_passed:
        parts.notice(
            "This model failed some of its gates.",
            "What it draws looks less like real households than it should. Train a better one, or "
            "check “Allow poor model” below.",
        )
    options = offered("regularise", reforms_field.NOT_OFFERED)
    schema = survey.schema()
    columns = [column.name for column in schema.unit_entity.columns] if schema else []
    values, acting, further, files = reforms_field.fields(
        "regularise", options, SHOWN, survey.numbers(), columns
    )
    if not option_widgets.is_complete(acting, values):
        parts.notice("Not yet.", "A field above cannot be read.")
        return
    if not has_passed and not values["allow_poor_model"]:
        return
    job = Job(
        "regularise",
        [
            *(str(survey.tables), "--model", str(model.path), "--targets", "{run}/targets.csv"),
            *("--out", "{run}/result", *further, *arguments(acting, values)),
        ],
        f"regularisation of {survey.name}",
        files | {"targets.csv": survey.targets_file.read_bytes()},
        {"survey": survey.id, "model": model.id, "values": values},
    )
    start(context, job, "Regularise", survey=survey.id)


SCREEN = Screen(
    title="Regularise",
    icon=":material/blur_on:",
    url="regularise",
    lead="Records that carry too much, spread over generated ones and calibrated anew.",
    render=render,
    group="Go further",
)
