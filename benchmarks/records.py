"""What is read of a run, checked: a file that cannot be used is named in one sentence, and costs its own run alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sb3_entropic.errors import UserError, nearest

SCHEMA = 1
"""Of run.json and evaluations.parquet; grows when an older version could no longer read what is written."""

_NUMBER = (int, float)
_TEXTS, _NUMBERS = ("env", "label", "algo", "package"), ("seed", "steps", "episodes")
_SPEC = {**dict.fromkeys(_TEXTS, str), **dict.fromkeys(_NUMBERS, int), "hyperparameters": dict}
_FINISHED = {"timesteps": int, "train_seconds": _NUMBER}
_OPTIONAL = {"stack": int, "steps_per_second": _NUMBER, "wall_seconds": _NUMBER}
_POSITIVE = ("steps", "episodes", "timesteps", "train_seconds", "stack")
_EVALUATIONS = ("step", "train_seconds", "return")


def read_record(path: Path) -> dict[str, Any]:
    """The record of a run, finished or failed.

    :param path: its ``run.json``
    :raises UserError: if it cannot be read, or is not what :func:`check_record` wants; names the file
    """
    return check_record(read_json(path), str(path))


def read_json(path: Path) -> Any:
    """What a file of JSON holds.

    :raises UserError: if it cannot be read; names the file
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None


def check_record(content: Any, source: str) -> dict[str, Any]:
    """The record of a run, if it has all that a report needs.

    :param content: what is to be one
    :param source: where it is from, for the message
    :raises UserError: if something is missing, impossible, or of a newer version
    """
    if not isinstance(content, dict):
        raise UserError(f"{source} is not a record of a run: it holds a {type(content).__name__}.")
    schema = content.get("schema", SCHEMA)
    if not isinstance(schema, int):
        raise UserError(f"{source} has {schema!r} as 'schema', which is a whole number.")
    if schema > SCHEMA:
        raise UserError(
            f"{source} has schema {schema}, and this version reads schema {SCHEMA}: update sb3_entropic to read it."
        )
    _check_fields(content, {"spec": dict}, source)
    _check_fields(content["spec"], _SPEC, source, "spec.")
    if "error" in content:
        _check_fields(content, {"error": str}, source)
        if not content["error"].strip():
            raise UserError(f"{source} has nothing as 'error'.")
    else:
        _check_fields(content, _FINISHED, source)
        _check_fields(content, {name: kind for name, kind in _OPTIONAL.items() if name in content}, source)
    resumed = content.get("resumed", [])
    if not isinstance(resumed, list) or not all(isinstance(part, dict) and "environment" in part for part in resumed):
        raise UserError(f"{source} has {resumed!r} as 'resumed'.")
    return content


def read_evaluations(path: Path, *columns: str) -> pd.DataFrame:
    """Evaluation rows, unchecked but for their columns.

    :param path: an ``evaluations.parquet``
    :param columns: what it is to have
    :raises UserError: if it cannot be read; names the file
    """
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0].rstrip('.')}.") from None
    _check_columns(rows, columns, str(path))
    return rows


def check_evaluations(rows: pd.DataFrame, source: str, steps: int) -> pd.DataFrame:
    """Evaluation rows, if they have all that a report needs.

    :param rows: what is to be some
    :param steps: environment steps of the run, at which the last of them is
    :param source: where they are from, for the message
    :raises UserError: if something is missing or not a number
    """
    _check_columns(rows, _EVALUATIONS, source)
    if rows.empty:
        raise UserError(f"{source} has no evaluations.")
    for name in _EVALUATIONS:
        if not pd.api.types.is_numeric_dtype(rows[name]) or not np.isfinite(rows[name]).all():
            raise UserError(f"{source} has something else than finite numbers in the column {name!r}.")
    if (last := rows["step"].max()) < steps:
        raise UserError(f"{source} has evaluations until step {last:,} of {steps:,} alone.")
    return rows


def _check_columns(rows: pd.DataFrame, columns: Iterable[str], source: str) -> None:
    for name in columns:
        if name not in rows:
            raise UserError(f"{source} has no column {name!r}, only {', '.join(map(repr, rows))}.")


def _check_fields(content: dict[str, Any], fields: dict[str, Any], source: str, prefix: str = "") -> None:
    for name, kind in fields.items():
        if name not in content:
            raise UserError(f"{source} lacks {prefix + name!r}.")
        value = content[name]
        wrong = not isinstance(value, kind) or (isinstance(value, float) and not math.isfinite(value))
        if wrong or (name in _POSITIVE and value <= 0):
            raise UserError(f"{source} has {value!r} as {prefix + name!r}.")


def choose_environments(names: Iterable[str], there: set[str], source: Path | str) -> set[str]:
    """The ids that are meant: a name without its version means every version there is.

    :param names: what a user wants
    :param there: the ids of which there are runs
    :param source: where, for the message
    :raises UserError: if there are no runs of one; names the nearest
    """
    wanted: set[str] = set()
    for name in names:
        meant = {env for env in there if name in (env, env.rpartition("-v")[0])}
        if not meant:
            ending = nearest(name, there)
            raise UserError(f"There are no runs of {name} in {source}, only of {', '.join(sorted(there))}{ending}")
        wanted |= meant
    return wanted
