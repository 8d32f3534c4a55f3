"""Editors and type checkers read of the constructors what ``help`` shows."""

import ast
import inspect

import pytest
from stable_baselines3.common.base_class import BaseAlgorithm

import sb3_entropic
from tests.stubs import PATH, stub

ALGORITHMS = [
    name
    for name in sb3_entropic.__all__
    if isinstance(vars(sb3_entropic)[name], type) and issubclass(vars(sb3_entropic)[name], BaseAlgorithm)
]
CLASSES = {node.name: node for node in ast.parse(PATH.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)}


def test_the_stub_is_of_the_signatures_as_they_are():
    assert PATH.read_text(encoding="utf-8") == stub(), "the arguments have changed: write them anew with `make stubs`"


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("method", ["__init__", "learn", "load"])
def test_it_has_every_argument_in_its_place_with_its_default(name, method):
    """Read as Python, not as it was written."""
    (node,) = (node for node in CLASSES[name].body if node.name == method)
    of_stub = ast.FunctionDef("f", node.args, [ast.Pass()], [], None, lineno=0)
    annotations = [argument for argument in ast.walk(node.args) if isinstance(argument, ast.arg)]
    assert all(argument.annotation for argument in annotations if argument.arg not in ("self", "cls"))
    for argument in annotations:
        argument.annotation = None
    found: dict = {}
    exec(compile(ast.fix_missing_locations(ast.Module([of_stub], [])), "stub", "exec"), found)
    function = getattr(vars(sb3_entropic)[name], method)
    wanted = inspect.signature(getattr(function, "__func__", function)).parameters.values()
    given = inspect.signature(found["f"]).parameters.values()
    assert [(p.name, p.kind, p.default) for p in given] == [(p.name, p.kind, p.default) for p in wanted]
