"""Builds dataclasses from JSON objects and checks the type of each value.

JSON has no tuples, so a list is read as a tuple; a whole number is accepted for a float. A value of the wrong type gets
an error with its key here, instead of a confusing error later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from atelier.arguments import shown
from atelier.weights.sizes import check_sizes

MAX_NUMBER = 2**31  # no size, setting or count is larger
# For the type of a field: a check of a JSON value, and the words for what is expected.
JSON_TYPES: dict[type, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (lambda value: type(value) is int and abs(value) < MAX_NUMBER, f"a whole number below {MAX_NUMBER}"),
    float: (lambda value: type(value) in (int, float) and abs(value) < math.inf, "a number"),
    str: (lambda value: isinstance(value, str), "a string"),
}

AnyDataclass = TypeVar("AnyDataclass")


def from_json(kind: type[AnyDataclass], values: Any, name: str, **computed: Any) -> AnyDataclass:
    """Build a dataclass from a JSON object.

    Args:
        kind: the dataclass. Its fields may be of type bool, int, float or str, or tuples, dicts, other dataclasses,
            optional values, or Any.
        values: the object.
        name: what the object describes, for error messages.
        **computed: the fields that are computed instead of read from the object.

    Returns:
        The instance.

    Raises:
        ValueError: if a key is missing or unknown, if a value does not have the type of its field, or if the sizes do
            not pass `check_sizes`. The message names the key.
    """
    check_object(values, name)
    known = {item.name: item for item in fields(kind) if item.name not in computed}  # ty: ignore[invalid-argument-type]
    _check_keys(values, known, name)
    types = get_type_hints(kind)
    built = kind(**{key: _value(value, types[key], _inside(name, key)) for key, value in values.items()}, **computed)
    check_sizes(built)
    return built


def check_object(values: Any, name: str) -> None:
    """Check that a value is a JSON object.

    Raises:
        ValueError: if it is not.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{name} is {shown(values)}; give an object.")


def _inside(name: str, key: str) -> str:
    """Join the keys of a nested value: `training.seed`. A description such as "the preset" is left out."""
    return key if " " in name else f"{name}.{key}"


def _check_keys(values: Mapping[str, Any], known: Mapping[str, Field], name: str) -> None:
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        raise ValueError(f"{name} has the unknown key {shown(unknown[0])}; the known keys are {', '.join(known)}.")
    needed = {key for key, item in known.items() if item.default is MISSING and item.default_factory is MISSING}
    missing = sorted(needed - values.keys())
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}.")


def _value(value: Any, kind: Any, name: str) -> Any:
    """Check a JSON value against the type of a field and return it.

    Lists become tuples and objects become dataclasses. Other values stay as they are: an int for a float stays an int.

    Raises:
        ValueError: if the value does not have the type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        (other,) = [option for option in inner if option is not NoneType]
        return None if value is None else _value(value, other, name)
    if is_dataclass(kind) and isinstance(kind, type):
        return from_json(kind, value, name)
    if origin is dict:
        check_object(value, name)
        return {key: _value(item, inner[1], _inside(name, key[:60])) for key, item in value.items()}
    if origin is tuple:
        return _tuple(value, inner, name)
    has_type, expected = JSON_TYPES[kind]
    if not has_type(value):
        raise ValueError(f"{name} is {shown(value)}; give {expected}.")
    return value


def _tuple(value: Any, inner: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} is {shown(value)}; give a list.")
    kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
    if len(kinds) != len(value):
        raise ValueError(f"{name} is {shown(value)}; give a list of {len(kinds)} values.")
    return tuple(_value(item, kind, f"{name}[{i}]") for i, (item, kind) in enumerate(zip(value, kinds, strict=True)))
