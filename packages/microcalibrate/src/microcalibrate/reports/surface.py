"""What was reported and in which cells, as tables of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from microcalibrate.reports.page import Listing, Part, Table

if TYPE_CHECKING:
    from microcalibrate.diagnostics.diagnosis import Diagnosis


def settings_parts(diagnosis: Diagnosis) -> list[Part]:
    """What was reported, in which cells, and the other settings."""
    surface = diagnosis.settings["surface"]
    others = {name: value for name, value in diagnosis.settings.items() if name != "surface"}
    metrics = Table(
        ["Metric", "Value", "Entity", "Kind"],
        [
            [m["name"], _told(m), m.get("entity") or diagnosis.settings["unit"], m["kind"]]
            for m in surface["metrics"]
        ],
        words=frozenset({1, 2, 3}),
    )
    slices = Table(
        ["Slice", "By", "Entity", "Cells"],
        [
            [s["name"], s["by"], s.get("entity") or diagnosis.settings["unit"], _divided(s)]
            for s in surface["slices"]
        ],
        words=frozenset({1, 2, 3}),
    )
    listing = Listing({**others, **{f"version of {k}": v for k, v in diagnosis.versions.items()}})
    return [metrics, *([slices] if surface["slices"] else []), listing]


def _told(metric: dict[str, Any]) -> str:
    told = str(metric["value"])
    if metric.get("denominator"):
        told += f" / {metric['denominator']}"
    return told + (f" where {metric['where']}" if metric.get("where") else "")


def _divided(part: dict[str, Any]) -> str:
    if part.get("quantiles"):
        return f"{part['quantiles']} weighted quantile groups"
    if part.get("edges"):
        return "bands from " + ", ".join(f"{edge:g}" for edge in part["edges"])
    return "categories"
