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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

import sb3_entropic

PATH = Path(sb3_entropic.__file__).with_suffix(".pyi")
HEAD = (
    '"""The package\'s face and every argument of its algorithms, written by `make stubs`; what else there is is internal."""'
)
HOMES = {
    "Any": "typing",
    "BoundLike": "sb3_entropic.operators",
    "Callable": "collections.abc",
    "Engine": "sb3_entropic.engine.options",
    "GymEnv": "stable_baselines3.common.type_aliases",
    "Iterable": "collections.abc",
    "MaybeCallback": "stable_baselines3.common.type_aliases",
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
    "callback": "MaybeCallback",
    "tb_log_name": "str | None",
}
"""What ours take beyond what SB3's annotation says, or in fewer words."""


def stub() -> str:
    """The stub of ``sb3_entropic/__init__.py``."""
    face = {name: vars(sb3_entropic)[name] for name in sb3_entropic.__all__ if not name.startswith("_")}
    classes = [each for each in face.values() if inspect.isclass(each) and issubclass(each, BaseAlgorithm)]
    # A base comes before what extends it.
    classes.sort(key=lambda cls: (len(cls.__mro__), cls.__name__))
    needed = {
        "from sb3_entropic import envs as envs",
        "from typing import TypeVar, overload",
        "from typing_extensions import Self",
    }
    needed |= {"from stable_baselines3.common.base_class import BaseAlgorithm"}
    bodies = [_class(cls, [base for base in cls.__mro__[1:] if base in classes][:1], needed) for cls in classes]
    bodies.append(_train_seeds(needed))
    for name, each in face.items():
        if each is not sb3_entropic.train_seeds:
            line = f"from {each.__module__} import {name}"
            needed = needed - {line} | {f"{line} as {'_' * (each in classes)}{name}"}
    public = f'__version__: str\n__all__ = {sb3_entropic.__all__!r}\nModel = TypeVar("Model", bound=BaseAlgorithm)'
    return _tidied("\n".join([HEAD, *sorted(needed), public, *bodies]))


def _tidied(text: str) -> str:
    """With imports sorted and lines broken as everywhere here."""
    for command in (("check", "--fix-only", "--select", "I"), ("format",)):
        ruff = [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", str(PATH), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, check=True, encoding="utf-8").stdout
    return text


def _class(cls: type[BaseAlgorithm], bases: list[type], needed: set[str]) -> str:
    """A class that has the real one's constructor, and methods that return its kind."""
    lines = [f"class {cls.__name__}({', '.join(['_' + cls.__name__, *(base.__name__ for base in bases)])}):"]
    lines += _function("__init__", inspect.signature(cls.__init__), "None", needed)
    lines += _function("learn", _annotated(cls.learn, BaseAlgorithm.learn), "Self", needed)
    load = _annotated(cls.load.__func__, BaseAlgorithm.load.__func__)
    return "\n".join([*lines, "    @classmethod", *_function("load", load, "Self", needed, {"env": "GymEnv | None"})])


def _annotated(method: Callable[..., Any], parents: Callable[..., Any]) -> inspect.Signature:
    """The signature of a method, with SB3's annotations."""
    of_parent, own = inspect.signature(parents).parameters, inspect.signature(method)
    return own.replace(parameters=[p.replace(annotation=of_parent[p.name].annotation) for p in own.parameters.values()])


def _train_seeds(needed: set[str]) -> str:
    """Models of the class that is given; of a class that is not known before the program runs, any."""
    signature, lines = inspect.signature(sb3_entropic.train_seeds), []
    for algorithm, model in (("type[Model]", "Model"), ("type", "Any")):
        accepted = {"algorithm": algorithm, "env": signature.parameters["env"].annotation, "callback": None}
        lines += ["@overload", *_function("train_seeds", signature, f"list[{model}]", needed, accepted, indent="")]
    return "\n".join(lines)


def _function(
    name: str,
    signature: inspect.Signature,
    returns: str,
    needed: set[str],
    accepted: dict[str, str | None] | None = None,
    indent: str = "    ",
) -> list[str]:
    """The lines of a function, and into a set the imports that its annotations need.

    :param accepted: goes over :data:`ACCEPTED`; ``None`` for the signature's own
    """
    lines, kinds = [f"{indent}def {name}("], set()
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.kind not in kinds:
            lines.append("*,")
        kinds.add(parameter.kind)
        if parameter.name in ("self", "cls"):
            lines.append(f"{parameter.name},")
            continue
        annotation = {**ACCEPTED, **(accepted or {})}.get(parameter.name) or _text(parameter.annotation, needed)
        needed |= {f"from {HOMES[word]} import {word}" for word in re.findall(r"\w+", annotation) if word in HOMES}
        stars = "**" * (parameter.kind is parameter.VAR_KEYWORD)
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        lines.append(f"{stars}{parameter.name}: {annotation}{default},")
    return [*lines, f"{indent}) -> {returns}: ..."]


def _default(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _text(annotation: Any, needed: set[str]) -> str:
    """An annotation as it is written, and into a set what it needs to be imported."""
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    if annotation is inspect.Parameter.empty:
        return "Any"
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_text(each, needed) for each in inner)
    if origin is collections.abc.Callable:
        # SB3's arguments are no other functions.
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
