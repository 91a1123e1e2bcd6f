"""The one R process of a file of tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def run_r(script: str, folder: Path) -> None:
    """Run a script with a folder as its argument; skip where R or what it needs is missing."""
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed: there is no Rscript to compare with")
    # Calibration in `survey` calls MASS, which Debian's package only recommends.
    for package in ("survey", "MASS"):
        asked = ["Rscript", "-e", f"cat(requireNamespace('{package}', quietly = TRUE))"]
        has = subprocess.run(asked, capture_output=True, text=True, check=False)
        if "TRUE" not in has.stdout:
            pytest.skip(f"R has no package `{package}`: install.packages('{package}')")
    place = folder / "run.R"
    place.write_text(script)
    done = subprocess.run(
        ["Rscript", str(place), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
