"""What editors and type checkers read of the algorithms' constructors: ``make stubs`` writes it.

A class's arguments are its SB3 parent's and those of its bases, put together when the class is made
(:mod:`sb3_entropic.signature`); who reads the source alone sees ``*args`` and ``**kwargs``.
"""

from __future__ import annotations

import collections.abc
import inspect
import re
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

import sb3_entropic

PATH = Path(sb3_entropic.__file__).with_suffix(".pyi")
HEAD = '"""The package\'s face, and every argument of its algorithms: written by `make stubs`."""'
HOMES = {
    "Any": "typing",
    "BoundLike": "sb3_entropic.operators",
    "Engine": "sb3_entropic.engine.options",
    "GymEnv": "stable_baselines3.common.type_aliases",
    "Schedule": "stable_baselines3.common.type_aliases",
    "Scheduled": "sb3_entropic.temperature",
    "SoftValue": "sb3_entropic.operators",
}
"""Where a name that is in an annotation as text is imported from."""
ACCEPTED = {
    "env": "GymEnv | str",
    "learning_rate": "Scheduled",
    "ent_coef": "Scheduled | str",
    "target_entropy": "Scheduled | str",
}
"""What ours take beyond what SB3's annotation says, or in fewer words."""


def stub() -> str:
    """The stub of ``sb3_entropic/__init__.py``."""
    face = {name: vars(sb3_entropic)[name] for name in sb3_entropic.__all__ if not name.startswith("_")}
    classes = [each for each in face.values() if inspect.isclass(each) and issubclass(each, BaseAlgorithm)]
    # A base comes before what extends it.
    classes.sort(key=lambda cls: (len(cls.__mro__), cls.__name__))
    bodies = [_class(cls, [base for base in cls.__mro__[1:] if base in classes][:1]) for cls in classes]
    imports = {f"from {each.__module__} import {name} as {'_' * (each in classes)}{name}" for name, each in face.items()}
    imports |= {line for _, needed in bodies for line in needed} - {line.partition(" as ")[0] for line in imports}
    public = f"__version__: str\n__all__ = {sb3_entropic.__all__!r}"
    return _tidied("\n".join([HEAD, *sorted(imports), public, *(body for body, _ in bodies)]))


def _tidied(text: str) -> str:
    """With imports sorted and lines broken as everywhere here."""
    for command in (("check", "--fix-only", "--select", "I"), ("format",)):
        ruff = [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", str(PATH), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, check=True, encoding="utf-8").stdout
    return text


def _class(cls: type, bases: list[type]) -> tuple[str, set[str]]:
    """A class that has the real one's constructor, and the imports that its annotations need."""
    needed: set[str] = set()
    lines = [f"class {cls.__name__}({', '.join(['_' + cls.__name__, *(base.__name__ for base in bases)])}):"]
    lines += ["    def __init__(", "        self,"]
    kinds = set()
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.kind not in kinds:
            lines.append("        *,")
        kinds.add(parameter.kind)
        kind = ACCEPTED.get(parameter.name) or _text(parameter.annotation, needed)
        needed |= {f"from {HOMES[name]} import {name}" for name in re.findall(r"\w+", kind) if name in HOMES}
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        lines.append(f"        {parameter.name}: {kind}{default},")
    return "\n".join([*lines, "    ) -> None: ...", ""]), needed


def _default(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _text(annotation: Any, needed: set[str]) -> str:
    """An annotation as it is written, and into a set what it needs to be imported."""
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_text(each, needed) for each in inner)
    if origin is collections.abc.Callable:
        # Tells a schedule from no other function, here.
        return "Schedule"
    if annotation is Any:
        return "Any"
    if annotation in (None, type(None)):
        return "None"
    cls = origin or annotation
    if cls.__module__ != "builtins":
        needed.add(f"from {cls.__module__} import {cls.__name__}")
    return cls.__name__ + (f"[{', '.join(_text(each, needed) for each in inner)}]" if inner else "")


if __name__ == "__main__":
    PATH.write_text(stub(), encoding="utf-8")
    print(f"written: {PATH}")
