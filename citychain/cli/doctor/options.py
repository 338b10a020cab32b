"""Options of a part: can a reader know what they are for, and is a misspelt one noticed?"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from citychain.cli.doctor.findings import Finding

__all__ = ["missing_options", "options_findings"]


def options_findings(part: Any) -> Iterator[Finding]:
    """What is wrong with the model of a part's options."""
    model: type[BaseModel] = part.options
    where = _line_of_class(model)
    for name in _undocumented(model):
        yield Finding(
            "option-undocumented",
            where,
            f"{part.name}: the option {name} has neither a description nor a docstring",
            "write a string below the field that says what it does, and in which unit",
        )
    if model.model_config.get("extra") != "forbid":
        yield Finding(
            "options-extra",
            where,
            f"{part.name}: {model.__name__} takes any option, so a misspelt one is not noticed",
            'write: model_config = ConfigDict(extra="forbid")',
        )


def missing_options(model: type[BaseModel], options: dict[str, Any]) -> str:
    """What must be given besides these options; empty if nothing."""
    try:
        model.model_validate(options)
    except ValidationError as error:
        return ", ".join(
            ".".join(map(str, fault["loc"])) or fault["msg"] for fault in error.errors()
        )
    return ""


def _line_of_class(model: type[BaseModel]) -> str:
    try:
        return f"{inspect.getsourcefile(model)}:{inspect.getsourcelines(model)[1]}"
    except (OSError, TypeError):
        return f"{model.__module__}.{model.__qualname__}"


def _undocumented(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        owner = next(cls for cls in model.__mro__ if name in inspect.get_annotations(cls))
        if not field.description and name not in _documented(owner):
            yield name


def _documented(model: type) -> set[str]:
    """Fields with a docstring below them; if there is no source, it cannot be known: all."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    except (OSError, SyntaxError, TypeError):
        return set(inspect.get_annotations(model))
    [definition] = tree.body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id
        for field, below in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
