"""What the source says of a model: its docstring and those under its fields.

Python keeps a class's docstring and drops those under its fields, so the source is parsed,
once for each module and only when somebody asks.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType


@dataclass(frozen=True, slots=True)
class Docs:
    """A model's docstring and its fields' docstrings by their Python names."""

    text: str
    fields: Mapping[str, str]


def docs_of(model: type) -> Docs:
    """Return the docs of `model`; a field that it inherits is documented where it is defined."""
    fields: dict[str, str] = {}
    for base in reversed(model.__mro__):
        module = sys.modules.get(base.__module__)
        if module is not None and base.__module__.startswith("tidegate."):
            fields |= _documented(module).get(base.__name__, {})
    return Docs(inspect.cleandoc(model.__doc__ or ""), fields)


@cache
def _documented(module: ModuleType) -> Mapping[str, Mapping[str, str]]:
    """Return the documented fields of each class of a module."""
    tree = ast.parse(inspect.getsource(module))
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return {each.name: dict(_fields(each)) for each in classes}


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for line, below in zip(node.body, node.body[1:], strict=False):
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        match below:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield line.target.id, inspect.cleandoc(text)
            case _:
                pass
