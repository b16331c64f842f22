"""From pydantic's errors to `FILE:LINE: key.path: reason; fix`."""

from __future__ import annotations

import difflib
import itertools
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, RootModel, ValidationError
from pydantic.fields import FieldInfo

from raystt.strict import Complaint, Invalid, Location


def nearest(word: Any, known: Iterable[str]) -> str:
    """Word the fix for a name that is not among `known`, of which a hundred are looked at."""
    names = list(itertools.islice(known, 100))
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"choose from: {', '.join(names)}" if names else "remove it"


def explain(model: type[BaseModel], error: ValidationError) -> list[Complaint]:
    """Put the errors that pydantic found in a `model` into words."""
    complaints: list[Complaint] = []
    for details in error.errors(include_url=False):
        place = _follow(model, details["loc"])
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, Invalid):
            reads = tuple((*place.location, *read) for read in cause.reads)
            for c in cause.complaints:
                at = (*place.location, *c.location)
                complaints.append(Complaint(at, c.reason, c.fix, reads))
        else:
            complaints.append(_worded(details, place))
    return list(dict.fromkeys(complaints))


def _worded(details: Any, place: _Place) -> Complaint:
    """Word one error of pydantic."""
    if details["type"].startswith("union_tag"):
        members = _members(place.kind)
        key = details["ctx"]["discriminator"].strip("'")
        if "tag" not in details["ctx"]:
            words = "the key is missing", f"give one of {', '.join(members)}"
        else:
            tag = details["ctx"]["tag"]
            words = f"{tag!r} is not a known {key}", nearest(tag, members)
        return Complaint((*place.location, key), *words)
    return Complaint(place.location, *_words(details, place))


def _words(details: Any, place: _Place) -> tuple[str, str]:
    """Word the reason and the fix of an error."""
    kind, found, context = details["type"], details["input"], details.get("ctx", {})
    key, fields = place.location[-1] if place.location else "", _fields(place.above)
    info = fields.get(str(key))
    if kind == "extra_forbidden":
        owners = [tag for tag, other in place.union.items() if key in _fields(other)]
        if owners:
            name, tag = _tag(place.above)
            return f"the {name} {tag} has no such key", f"remove it or set {name}: " + (
                " or ".join(owners)
            )
        return "unknown key", nearest(key, fields)
    if kind == "too_long" or (kind == "missing" and isinstance(key, int)):
        return "expected two values", "write [low, high]"
    if kind == "missing":
        meaning = f" ({info.description})" if info and info.description else ""
        return "the key is missing", f"add `{key}:`{meaning}"
    if kind == "literal_error":
        return f"unknown value {found!r}", nearest(found, map(str, _options(place.kind)))
    if kind in _BOUNDS:
        sign, name = _BOUNDS[kind]
        fix = f"give a value {sign} {context[name]:g}"
        if len(_bounds(info)) == 2:
            side = "over" if name == "le" else "under"
            return f"{found!r} is {side} {_number(context[name])}", _range(info)
        return f"{found!r} is not {sign} {context[name]:g}", fix
    if _scalars(place.kind):
        return (
            f"expected a plain value, found {_shown(found)}",
            "give a number, a word, true or false",
        )
    if kind in _TYPES:
        wanted = _TYPES[kind]
        fix = (_range(info) or f"give {wanted}") + _example(info)
        return f"expected {wanted}, found {_shown(found)}", fix
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
    "model_attributes_type": "a mapping",
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


def _bounds(info: FieldInfo | None) -> list[Any]:
    """The least and the most of a field, as far as it has them."""
    metadata = info.metadata if info else []
    return [getattr(one, name) for name in ("ge", "le") for one in metadata if hasattr(one, name)]


def _range(info: FieldInfo | None) -> str:
    """Word the range of a field that is bounded on both sides."""
    bounds = _bounds(info)
    if info is None or len(bounds) < 2:
        return ""
    kind = "whole number" if _plain(info.annotation) is int else "number"
    return f"give a {kind} from {_number(bounds[0])} to {_number(bounds[1])}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _options(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    return [option for part in typing.get_args(annotation) for option in _options(part)]


def _fields(kind: Any) -> dict[str, FieldInfo]:
    """Fields of a model by the key that a file uses for them."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {info.alias or name: info for name, info in kind.model_fields.items()}
    return {}


@dataclass(frozen=True)
class _Place:
    """Where an error is, and which types are expected there.

    Attributes:
        location: Its place in the file: pydantic's, without names of members of a union.
        kind: Type of the value; None where it is not known.
        above: Type of what holds the value.
        union: The other members, by tag, of the union that `above` was chosen from.
    """

    location: Location
    kind: Any
    above: Any
    union: dict[str, Any]


def _follow(model: Any, location: Location) -> _Place:
    """Go down from a model along the location of an error."""
    kept: Location = ()
    kind, above = _plain(model), None
    chosen: dict[str, Any] = {}
    union: dict[str, Any] = {}
    for part in location:
        members = _members(kind)
        if part in members:
            kind, chosen = members[str(part)], members
            continue
        if _scalars(kind) or part == "[key]":  # a key is where its value is
            continue
        kept, above, union, chosen = (*kept, part), kind, chosen, {}
        origin = typing.get_origin(kind)
        if origin in (dict, tuple):
            kind = _plain(typing.get_args(kind)[1 if origin is dict else 0])
        else:
            info = _fields(kind).get(str(part))
            kind = _plain(info.annotation) if info else None
    return _Place(kept, kind, above, union)


def _union(kind: Any) -> tuple[Any, ...]:
    """Members of a union; none of another type."""
    whole = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if whole else ()


def _scalars(kind: Any) -> bool:
    """Say whether a type is one of several plain ones."""
    return str in _union(kind)


def _members(kind: Any) -> dict[str, Any]:
    """Models of a union, by the tag that a file names them with."""
    return {_tag(member)[1]: member for member in _union(kind) if _fields(member)}


def _tag(model: Any) -> tuple[str, str]:
    """Key and value that tell a model from the others of its union."""
    return next(
        (name, options[0])
        for name, info in _fields(model).items()
        if len(options := _options(info.annotation)) == 1
    )


def _plain(kind: Any) -> Any:
    """Strip `| None`, `Annotated` and root models from a type."""
    if typing.get_origin(kind) is typing.Annotated:
        return _plain(typing.get_args(kind)[0])
    options = [option for option in _union(kind) if option is not type(None)]
    if len(options) == 1:
        return _plain(options[0])
    if isinstance(kind, type) and issubclass(kind, RootModel):
        return _plain(kind.model_fields["root"].annotation)
    return kind
