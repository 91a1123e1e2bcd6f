"""The JSON schemas that this project publishes, and what agrees with them."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema


def published(name: str) -> dict[str, Any]:
    """A schema by its name; it is a valid one itself."""
    path = files("microcalibrate.reports") / "json_schemas" / f"{name}.json"
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


def validate(name: str, path: str | Path) -> dict[str, Any]:
    """What a JSON file holds, once it agrees with the schema of that name."""
    found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(published(name)).validate(found)
    return found
