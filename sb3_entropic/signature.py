"""Signatures that show what an SB3 parent's ``*args, **kwargs`` accept."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from sb3_entropic.errors import nearest

Class = TypeVar("Class", bound=type)


def extends(parent: type) -> Callable[[Class], Class]:
    """Give a subclass's constructor the parent's parameters in their order, then its own keyword-only ones.

    ``help``, editors and ``inspect.signature`` then show every argument, and a misspelt one is answered by the nearest.

    :param parent: the SB3 class whose ``__init__`` takes what ours does not name
    """

    def decorate(cls: Class) -> Class:
        own = inspect.signature(cls.__init__)
        ours = [p for p in own.parameters.values() if p.kind is p.KEYWORD_ONLY]
        signature = inspect.signature(parent.__init__)
        signature = signature.replace(parameters=[*signature.parameters.values(), *ours])
        construct = cls.__init__

        @functools.wraps(construct)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            for name in kwargs.keys() - signature.parameters.keys():
                raise TypeError(f"{type(self).__name__} has no argument {name!r}{nearest(name, signature.parameters)}")
            construct(self, *args, **kwargs)

        __init__.__signature__ = signature  # type: ignore[attr-defined]
        cls.__init__ = __init__  # type: ignore[misc]
        return cls

    return decorate
