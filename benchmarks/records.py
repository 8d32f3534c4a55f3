"""What is read of a run, checked: a file that cannot be used is named in one sentence, and costs its own run alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sb3_entropic.errors import UserError

SCHEMA = 1
"""Of run.json and evaluations.parquet; grows when an older version could no longer read what is written."""

_NUMBER = (int, float)
_SPEC = {"env": str, "label": str, "algo": str, "package": str, "seed": int, "steps": int, "episodes": int}
_FINISHED = {"timesteps": int, "train_seconds": _NUMBER}
_OPTIONAL = {"stack": int, "steps_per_second": _NUMBER, "wall_seconds": _NUMBER}
_POSITIVE = ("steps", "episodes", "timesteps", "train_seconds", "stack")
_EVALUATIONS = ("step", "train_seconds", "return")


def read_record(path: Path) -> dict[str, Any]:
    """The record of a run, finished or failed.

    :param path: its ``run.json``
    :raises UserError: if it cannot be read, lacks what a report needs, or is of a newer version; names the file
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    if not isinstance(record, dict):
        raise UserError(f"{path} is not a record of a run: it holds a {type(record).__name__}.")
    check_schema(record, path)
    _check_fields(record, {"spec": dict}, path)
    _check_fields(record["spec"], _SPEC, path, "spec.")
    if "error" not in record:
        _check_fields(record, _FINISHED, path)
        _check_fields(record, {name: kind for name, kind in _OPTIONAL.items() if name in record}, path)
    return record


def read_evaluations(path: Path) -> pd.DataFrame:
    """A finished run's evaluation rows.

    :param path: its ``evaluations.parquet``
    :raises UserError: if it cannot be read, or lacks what a report needs; names the file
    """
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0].rstrip('.')}.") from None
    missing = [name for name in _EVALUATIONS if name not in rows]
    if missing:
        raise UserError(f"{path} has no column {missing[0]!r}, only {', '.join(map(repr, rows))}.")
    if rows.empty:
        raise UserError(f"{path} has no evaluations.")
    for name in _EVALUATIONS:
        if not pd.api.types.is_numeric_dtype(rows[name]) or not np.isfinite(rows[name]).all():
            raise UserError(f"{path} has something else than finite numbers in the column {name!r}.")
    return rows


def check_schema(content: dict[str, Any], path: Path) -> None:
    """Refuse what a newer version of the harness has written.

    :param content: of the file; without a ``schema`` it is of the first one
    :param path: the file, for the message
    :raises UserError: if it is newer
    """
    schema = content.get("schema", SCHEMA)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise UserError(f"{path} has schema {schema}, and this version reads schema {SCHEMA}: update sb3_entropic to read it.")


def _check_fields(content: dict[str, Any], fields: dict[str, Any], path: Path, prefix: str = "") -> None:
    for name, kind in fields.items():
        if name not in content:
            raise UserError(f"{path} lacks {prefix + name!r}.")
        value = content[name]
        wrong = not isinstance(value, kind) or (isinstance(value, float) and not math.isfinite(value))
        if wrong or (name in _POSITIVE and value <= 0):
            raise UserError(f"{path} has {value!r} as {prefix + name!r}.")
