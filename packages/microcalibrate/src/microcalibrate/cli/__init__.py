"""The command line: calibration, and the diagnosis and regularisation of weights.

Exit codes: 0 done; 1 failure; 2 bad usage; 130 cancelled by Ctrl-C; and, where everything was
written all the same: 3 a solve ended without certificate (calibrate, tune, evaluate, targets), or
records are flagged (diagnose --fail-on-flagged), or targets have errors (check --fail-on-errors);
4 a model failed its gates (train); 5 nothing could be improved (regularise). Whatever a command
writes appears whole or not at all.
"""

from microcalibrate.cli import (
    calibrate,
    check,
    compare,
    dashboard,
    demo,
    diagnose,
    estimate,
    evaluate,
    profile,
    regularise,
    report,
    runs,
    schema,
    targets,
    targets_template,
    train,
    tune,
)
from microcalibrate.cli.app import (
    BAD_USAGE,
    CANCELLED,
    FAILURE,
    FLAGGED,
    POOR_MODEL,
    ROLLED_BACK,
    UNCERTIFIED,
    app,
    main,
)

# In this order they stand on the help page.
for _command in (
    demo.demo,
    profile.profile,
    targets_template.targets_template,
    check.check,
    calibrate.calibrate,
    tune.tune,
    evaluate.evaluate,
    targets.targets,
    estimate.estimate,
    schema.schema,
    diagnose.diagnose,
    train.train,
    regularise.regularise,
    compare.compare,
    report.report,
    dashboard.dashboard,
):
    app.command()(_command)
app.command("regularize", hidden=True)(regularise.regularise)
app.add_typer(runs.runs, name="runs")

__all__ = [
    "BAD_USAGE",
    "CANCELLED",
    "FAILURE",
    "FLAGGED",
    "POOR_MODEL",
    "ROLLED_BACK",
    "UNCERTIFIED",
    "app",
    "main",
]
