"""Loggers that are told before they write, so that what is logged is made only then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from stable_baselines3.common.logger import Logger


@contextmanager
def prepared(logger: Logger, prepare: Callable[[], None]) -> Iterator[None]:
    """Let a logger that is asked to write, by whomever, be prepared first; copies of it are not."""
    with _changing:
        if not _preparing.get(logger):
            logger.__class__ = _prepared_class(type(logger))
        _preparing[logger] = [*_preparing.get(logger, []), prepare]
    try:
        yield
    finally:
        # Runs that share a logger need not end in the order in which they began.
        with _changing:
            _preparing[logger] = [each for each in _preparing[logger] if each is not prepare]
            if not _preparing[logger]:
                logger.__class__ = type(logger).__base__


@lru_cache
def _prepared_class(base: type[Logger]) -> type[Logger]:
    def dump(self: Logger, *args: Any, **kwargs: Any) -> None:
        for prepare in _preparing.get(self, ()):
            prepare()
        base.dump(self, *args, **kwargs)

    def reduced(self: Logger, protocol: Any) -> tuple[Any, ...]:
        # Copied and pickled it is what it was.
        return _new, (base,), vars(self)

    return type(base.__name__, (base,), {"dump": dump, "__reduce_ex__": reduced, "__module__": base.__module__})


def _new(base: type[Logger]) -> Logger:
    return base.__new__(base)


_changing = Lock()
_preparing: WeakKeyDictionary[Logger, list[Callable[[], None]]] = WeakKeyDictionary()
"""What is to be done before a logger writes."""
