"""What is read of a run, checked: a file that cannot be used is named in one sentence, and costs its own run alone."""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.spec import RunSpec, in_words
from sb3_entropic.errors import UserError, nearest

SCHEMA = 1
"""Of run.json and evaluations.parquet; grows when an older version could no longer read what is written."""

LARGEST = 1e15
"""In size, of any number of a record or of evaluations: far beyond it sums are none."""
_NUMBER = (int, float)
_TEXTS, _NUMBERS = ("env", "label", "algo", "package"), ("seed", "steps", "evaluations", "episodes", "evaluation_seed")
_SPEC = {**dict.fromkeys(_TEXTS, str), **dict.fromkeys(_NUMBERS, int), "hyperparameters": dict}
_FINISHED = {"timesteps": int, "train_seconds": _NUMBER}
_OPTIONAL = {"stack": int, "steps_per_second": _NUMBER, "wall_seconds": _NUMBER, "started": str, "ended": str}
_POSITIVE = ("steps", "evaluations", "episodes", "timesteps", "train_seconds", "steps_per_second", "stack")
_IDS = {"env": re.compile(r"[\w.:/-]{1,150}"), "algo": re.compile(r"[\w.:]{1,150}")}
_EVALUATIONS = ("step", "timesteps", "train_seconds", "episode_seed", "return")


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
    except (OSError, ValueError, RecursionError) as error:
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
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError(f"{source} has text that no file can hold.") from None
    _check_fields(content, {"spec": dict}, source)
    _check_spec(content["spec"], source)
    _check_fields(content, {name: kind for name, kind in _OPTIONAL.items() if name in content}, source)
    if "error" in content:
        _check_fields(content, {"error": str}, source)
        if not content["error"].strip():
            raise UserError(f"{source} has nothing as 'error'.")
    else:
        _check_fields(content, _FINISHED, source)
        if content["timesteps"] < content["spec"]["steps"]:
            raise UserError(f"{source} has {content['timesteps']} as 'timesteps' of {content['spec']['steps']}.")
    resumed = content.get("resumed", [])
    parts = resumed if isinstance(resumed, list) else [None]
    if not all(isinstance(part, dict) and isinstance(part.get("environment"), str) for part in parts):
        raise UserError(f"{source} has {resumed!r} as 'resumed'.")
    return content


def _check_spec(spec: dict[str, Any], source: str) -> None:
    _check_fields(spec, _SPEC, source, "spec.")
    for name in _TEXTS:
        if not spec[name].isprintable() or (name in _IDS and not _IDS[name].fullmatch(spec[name])):
            raise UserError(f"{source} has {spec[name]!r} as 'spec.{name}'.")
    # What reports call it has to begin with what it is.
    if spec["label"] != spec["algo"] and not spec["label"].startswith(f"{spec['algo']}["):
        raise UserError(f"{source} is of {spec['algo']!r}, and has {spec['label']!r} as 'spec.label'.")
    try:
        RunSpec(**spec)
    except TypeError as error:
        raise UserError(f"{source} is not one of this version's: {error}.") from None


def check_place(record: dict[str, Any], place: str, source: str) -> None:
    """Check that a record is where its run's has to be: a copy would count as one more seed.

    :param record: what :func:`check_record` has let pass
    :param place: where it is, below the folder of all runs, without the ending of a failed one's
    :param source: where it is from, for the message
    :raises UserError: if it is elsewhere
    """
    if place != (named := RunSpec(**record["spec"]).path.as_posix()):
        raise UserError(f"{source} is the record of {named}, and lies in {place}: is it a copy?")


def read_evaluations(path: Path, *columns: str) -> pd.DataFrame:
    """Evaluation rows, unchecked but for their columns.

    :param path: an ``evaluations.parquet``
    :param columns: what it is to have
    :raises UserError: if it cannot be read; names the file
    """
    try:
        # What pandas has noted in the file may be anything.
        rows = pq.read_table(path).to_pandas(ignore_metadata=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0].rstrip('.')}.") from None
    _check_columns(rows, columns, str(path))
    return rows


def check_evaluations(rows: pd.DataFrame, source: str, record: dict[str, Any]) -> pd.DataFrame:
    """Evaluation rows, if they are all that the run's record says there are.

    :param rows: what is to be some
    :param record: the run's
    :param source: where they are from, for the message
    :raises UserError: if something is missing, there twice, not a number or of another run
    """
    spec = RunSpec(**record["spec"])
    if rows.empty:
        raise UserError(f"{source} has no evaluations.")
    _check_columns(rows, _EVALUATIONS, source)
    for name in _EVALUATIONS:
        numbers = rows[name].to_numpy(dtype=float, na_value=np.nan) if pd.api.types.is_numeric_dtype(rows[name]) else np.nan
        if not (np.abs(numbers) < LARGEST).all():
            raise UserError(f"{source} has something else than finite numbers in the column {name!r}.")
    if (last := rows["step"].max()) < spec.steps:
        raise UserError(f"{source} has evaluations until step {last:,} of {spec.steps:,} alone.")
    seeds = range(spec.evaluation_seed, spec.evaluation_seed + spec.episodes)
    there = Counter(zip(rows["step"], rows["episode_seed"], strict=True))
    if len(rows) != spec.evaluations * spec.episodes or there != Counter(product(spec.points, seeds)):
        raise UserError(
            f"{source} has other evaluations than its record says: {spec.evaluations} until step {spec.steps:,}, of "
            f"{spec.episodes} episodes with {in_words(seeds)}."
        )
    for name in ("env", "label", "seed"):
        if name in rows and (rows[name] != getattr(spec, name)).any():
            raise UserError(f"{source} has rows of another run: not all have {getattr(spec, name)!r} in the column {name!r}.")
    times = rows.groupby("step")["train_seconds"]
    if (rows["timesteps"] < rows["step"]).any() or times.min().iloc[0] < 0 or not times.mean().is_monotonic_increasing:
        raise UserError(f"{source} has evaluations whose steps or seconds go backwards.")
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
        wrong = not isinstance(value, kind) or isinstance(value, bool)
        # Not a number is not within either.
        wrong = wrong or (isinstance(value, _NUMBER) and not -LARGEST < value < LARGEST)
        if wrong or (name in _POSITIVE and value <= 0):
            raise UserError(f"{source} has {textwrap.shorten(repr(value), 80, placeholder='...')} as {prefix + name!r}.")


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
