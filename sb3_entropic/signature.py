"""Signatures that show what an SB3 parent's ``*args, **kwargs`` accept."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from sb3_entropic.errors import nearest

Class = TypeVar("Class", bound=type)

_ARGUMENT = re.compile(r"(?m)^:param (\w+):.*(?:\n(?:[ \t]+.*)?$)*")
"""An argument's description, with the indented lines that belong to it."""


def extends(parent: type) -> Callable[[Class], Class]:
    """Give a subclass's constructor the parent's parameters in their order, then the keyword-only ones of ours.

    Ours are those of every class between the two, the subclass's own defaults first.

    ``help``, editors and ``inspect.signature`` then show every argument, and a misspelt one is answered by the nearest.

    :param parent: the SB3 class whose ``__init__`` takes what ours does not name
    """

    def decorate(cls: Class) -> Class:
        ours: dict[str, inspect.Parameter] = {}
        for base in cls.__mro__[: cls.__mro__.index(parent)]:
            own = inspect.signature(base.__init__).parameters.values() if "__init__" in vars(base) else ()
            for parameter in own:
                if parameter.kind is parameter.KEYWORD_ONLY:
                    ours.setdefault(parameter.name, parameter)
        signature = inspect.signature(parent.__init__)
        signature = signature.replace(parameters=[*signature.parameters.values(), *ours.values()])
        construct = cls.__init__

        @functools.wraps(construct)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            for name in kwargs.keys() - signature.parameters.keys():
                raise TypeError(f"{type(self).__name__} has no argument {name!r}{nearest(name, signature.parameters)}")
            construct(self, *args, **kwargs)

        __init__.__signature__ = signature  # type: ignore[attr-defined]
        cls.__init__ = __init__  # type: ignore[misc]
        _describe(cls, ours)
        return cls

    return decorate


def preset(**defaults: Any) -> Callable[[Class], Class]:
    """Give a subclass's constructor other defaults than its parent's, and show them in its signature.

    :param defaults: arguments of the parent and their values
    """

    def decorate(cls: Class) -> Class:
        construct = cls.__init__
        signature = inspect.signature(construct)
        changed = [p.replace(default=defaults.get(p.name, p.default)) for p in signature.parameters.values()]

        @functools.wraps(construct)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            given = signature.bind_partial(self, *args).arguments
            construct(self, *args, **{name: value for name, value in defaults.items() if name not in given} | kwargs)

        __init__.__signature__ = signature.replace(parameters=changed)  # type: ignore[attr-defined]
        cls.__init__ = __init__  # type: ignore[misc]
        _describe(cls, (p.name for p in changed if p.kind is inspect.Parameter.KEYWORD_ONLY))
        return cls

    return decorate


def _describe(cls: type, names: Iterable[str]) -> None:
    """Let a class's docstring end with what its bases' say of the arguments that it leaves to them."""
    text = inspect.cleandoc(cls.__doc__ or "")
    said: dict[str, str] = {}
    for base in cls.__mro__:
        for block in _ARGUMENT.finditer(inspect.cleandoc(vars(base).get("__doc__") or "")):
            said.setdefault(block[1], block[0].strip())
    own = {block[1] for block in _ARGUMENT.finditer(text)}
    missing = [said[name] for name in names if name in said and name not in own]
    if text and missing:
        before, raises, after = text.partition(":raises ")
        ends_with_arguments = before.rstrip().rpartition("\n\n")[2].startswith(":param ")
        lines = [before.rstrip(), *[""] * (not ends_with_arguments), *missing, *[""] * bool(raises)]
        cls.__doc__ = "\n".join(lines) + raises + after
