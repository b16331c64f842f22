"""From pydantic's errors to `FILE:LINE: key.path: reason; fix`."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError
from pydantic.fields import FieldInfo

from raystt.config.yaml_source import ConfigError, Location, Source

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Complaint:
    """What is wrong at `location`, which is relative to the value being validated."""

    location: Location
    reason: str
    fix: str


class Invalid(ValueError):
    """Several complaints at once, for validators that look at more than one key."""

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        super().__init__("\n".join(f"{c.reason}; {c.fix}" for c in complaints))
        self.complaints = tuple(complaints)


def nearest(word: Any, known: Iterable[str]) -> str:
    """Word the fix for a name that is not among `known`."""
    names = list(known)
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"choose from: {', '.join(names)}" if names else "remove it"


def build(model: type[M], source: Source) -> M:
    """Validate a file as `model`.

    Raises:
        ConfigError: every problem that was found, in the order of the file's lines.
    """
    try:
        return model.model_validate(source.data)
    except ValidationError as error:
        problems = [source.problem(c.location, c.reason, c.fix) for c in explain(model, error)]
        raise ConfigError(sorted(problems, key=lambda p: p.line)) from None


def explain(model: type[BaseModel], error: ValidationError) -> list[Complaint]:
    """Put the errors that pydantic found in a `model` into words."""
    complaints: list[Complaint] = []
    for details in error.errors(include_url=False):
        location: Location = details["loc"]
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, Invalid):
            complaints += [
                Complaint((*location, *c.location), c.reason, c.fix) for c in cause.complaints
            ]
        else:
            reason, fix = _words(details, model, location)
            complaints.append(Complaint(location, reason, fix))
    return complaints


def _words(details: Any, model: type[BaseModel], location: Location) -> tuple[str, str]:
    """Word the reason and the fix of one pydantic error."""
    kind, found, context = details["type"], details["input"], details.get("ctx", {})
    fields = _fields(_target(model, location[:-1]))
    info = fields.get(str(location[-1])) if location else None
    if kind == "extra_forbidden":
        return "unknown key", nearest(location[-1], fields)
    if kind == "too_long" or (kind == "missing" and isinstance(location[-1], int)):
        return "expected two values", "write [low, high]"
    if kind == "missing":
        meaning = f" ({info.description})" if info and info.description else ""
        return "the key is missing", f"add `{location[-1]}:`{meaning}"
    if kind == "literal_error":
        options = [str(option) for option in _options(_target(model, location))]
        return f"unknown value {found!r}", nearest(found, options)
    if kind in _BOUNDS:
        sign, name = _BOUNDS[kind]
        bound = f"{sign} {context[name]:g}"
        return f"{found!r} is not {bound}", f"give a value {bound}"
    if kind in _TYPES:
        wanted = _TYPES[kind]
        example = _example(info)
        return f"expected {wanted}, found {_shown(found)}", f"give {wanted}{example}"
    if kind in ("too_short", "string_too_short"):
        return "it is empty", "give at least one value"
    return details["msg"], "see the comments of the files in search_spaces/"


_BOUNDS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}

_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    return (
        "nothing" if value is None else f"{value!r}" + (" (text)" if isinstance(value, str) else "")
    )


def _example(info: FieldInfo | None) -> str:
    default = info.default if info else None
    shown = isinstance(default, (int, float, str)) and not isinstance(default, bool) and default
    return f", such as {default}" if shown else ""


def _options(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    return [option for part in typing.get_args(annotation) for option in _options(part)]


def _fields(kind: Any) -> dict[str, FieldInfo]:
    """Fields of a model by the key that a file uses for them."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {info.alias or name: info for name, info in kind.model_fields.items()}
    return {}


def _target(kind: Any, location: Location) -> Any:
    """Type that a file's value at `location` is validated as, None where it is not known."""
    for part in location:
        kind = _plain(kind)
        if typing.get_origin(kind) in (dict, tuple):
            kind = typing.get_args(kind)[1 if typing.get_origin(kind) is dict else 0]
        else:
            info = _fields(kind).get(str(part))
            kind = info.annotation if info else None
    return _plain(kind)


def _plain(kind: Any) -> Any:
    """Strip `| None`, `Annotated` and root models from a type."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _plain(typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return _plain(next(a for a in typing.get_args(kind) if a is not type(None)))
    if isinstance(kind, type) and issubclass(kind, RootModel):
        return _plain(kind.model_fields["root"].annotation)
    return kind
