"""Error messages for invalid configurations."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from prdsim.errors import ConfigError, did_you_mean
from prdsim.words import shown, shown_value


class ContradictionError(ConfigError):
    """Values that are possible one by one, but not together."""


_EITHER = {
    "step_size": "a positive number or auto",
    "forcing_norm": "a positive number or the file of a run",
}
"""What keys of several types may be."""


def explain(error: ValidationError, model: type[BaseModel]) -> ConfigError:
    """Return one line on the first problem, in the user's terms, not the validator's."""
    problem = error.errors(include_url=False)[0]
    if not problem["loc"]:
        return ContradictionError(problem["msg"].removeprefix("Value error, "))
    key = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        hint = did_you_mean(key, model.model_fields) or "prdsim run --help lists all keys"
        return ConfigError(f"{shown(key)}: no such configuration key; {hint}")
    requirement = _requirement(key, problem, literals(model.model_fields[key].annotation))
    return ConfigError(f"{key}: {requirement}, got {shown_value(problem['input'])}")


def _requirement(key: str, problem: ErrorDetails, names: list[str]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "value_error":
        return problem["msg"].removeprefix("Value error, ")
    bounds = {
        "greater_than_equal": ("ge", "at least"),
        "greater_than": ("gt", "greater than"),
        "less_than_equal": ("le", "at most"),
        "less_than": ("lt", "less than"),
    }
    if kind in bounds:
        name, comparison = bounds[kind]
        return f"must be {comparison} {context[name]}"
    if kind == "literal_error" and names and key not in _EITHER:
        hint = did_you_mean(str(problem["input"]), names)
        return f"must be one of {', '.join(names)}" + f" ({hint})" * bool(hint)
    if kind == "finite_number":
        return "must be a finite number"
    if key in _EITHER:
        return f"must be {_EITHER[key]}"
    words = {"int": "an integer", "float": "a number", "bool": "true or false", "string": "text"}
    return f"must be {words.get(kind.split('_')[0], 'a valid value')}"


def literals(annotation: Any) -> list[str]:
    """Return the texts among the literals of an annotation."""
    arguments = get_args(annotation)
    if arguments and all(isinstance(argument, str) for argument in arguments):
        return list(arguments)
    return [name for argument in arguments for name in literals(argument)]
