"""Spread records that carry too much over generated households, and prove that it helps."""

from __future__ import annotations

from microcalibrate.regularise.acceptance import Limits
from microcalibrate.regularise.codec import Codec
from microcalibrate.regularise.constraints import (
    Condition,
    Count,
    Depends,
    Gap,
    Impossible,
    OnlyIf,
    violations,
)
from microcalibrate.regularise.identifiers import Identifiers
from microcalibrate.regularise.loop import regularise
from microcalibrate.regularise.proposing import propose_schema
from microcalibrate.regularise.provenance import restore
from microcalibrate.regularise.recalibration import Recalibration, recalibrate
from microcalibrate.regularise.result import RegulariseResult
from microcalibrate.regularise.rules import Aggregate, Calculated, Expression, Inherited, Lookup
from microcalibrate.regularise.schema import Column, Entity, Schema
from microcalibrate.regularise.slots import SlotColumn, slot_mask
from microcalibrate.regularise.survey import Survey, concatenate, select_units
from microcalibrate.regularise.trained import TrainedModel, train_model

__all__ = [
    "Aggregate",
    "Calculated",
    "Codec",
    "Column",
    "Condition",
    "Count",
    "Depends",
    "Entity",
    "Expression",
    "Gap",
    "Identifiers",
    "Impossible",
    "Inherited",
    "Limits",
    "Lookup",
    "OnlyIf",
    "Recalibration",
    "RegulariseResult",
    "Schema",
    "SlotColumn",
    "Survey",
    "TrainedModel",
    "concatenate",
    "propose_schema",
    "recalibrate",
    "regularise",
    "restore",
    "select_units",
    "slot_mask",
    "train_model",
    "violations",
]
