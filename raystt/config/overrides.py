"""Overrides: the values, by dotted key, by which a trial differs from the base of its search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raystt.config.parts import TrainingConfig
from raystt.config.run import RunBase
from raystt.config.validation import nearest
from raystt.interleaving.rules import Interleaving
from raystt.schedule import SHAPES, Apart, Schedule

SEARCHABLE = ("schedule", "interleaving", "training")
"""The parts of a run that may differ between trials."""

_SIDES = ("source", "target")  # keys of a schedule of shape `apart`, with a schedule each


def merge_schedule(base: Schedule | Apart, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a schedule of which some keys are changed.

    Args:
        base: What it starts from; the keys that a new shape does not have are dropped.
        changes: Values by dotted key; only those of `schedule.` count.
    """
    return _merged(base, _below("schedule", changes))


def _merged(base: Schedule | Apart, own: dict[str, Any]) -> dict[str, Any]:
    shape = own.get("shape", base.shape)
    if shape == Apart().shape:
        pairs = zip(_SIDES, base.sides(), strict=True)
        sides = {name: _merged(side, _below(name, own)) for name, side in pairs}
        rest = {key: value for key, value in own.items() if key.partition(".")[0] not in _SIDES}
        return {"shape": shape, **sides, **rest}
    if isinstance(base, Apart):
        base = base.source
    if shape not in SHAPES:
        return {**base.model_dump(), **own}
    fields = SHAPES[shape].model_fields
    kept = set(fields) - {"shape"}
    if own and "constant" in (shape, base.shape):
        # a constant's final, hold and end follow from its initial ratio: they are no one's choice
        kept = {"initial"}
    values = {name: field.default for name, field in fields.items()}
    values |= {name: value for name, value in base.model_dump().items() if name in kept}
    return values | own


def flat(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a part by their dotted keys; the counterpart of `_below`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{part}.{key}"
        found |= flat(name, value) if isinstance(value, Mapping) else {name: value}
    return found


def _below(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a part, by what follows its name in their dotted keys."""
    return {
        key.removeprefix(f"{part}."): value
        for key, value in values.items()
        if key.startswith(f"{part}.")
    }


def searchable() -> list[str]:
    """List the keys of a run that a space may name."""
    shapes = [name for shape in SHAPES.values() for name in shape.model_fields]
    keys = {
        "schedule": [*shapes, *(f"{side}.{name}" for side in _SIDES for name in shapes)],
        "interleaving": Interleaving.model_fields,
        "training": TrainingConfig.model_fields,
    }
    return list(dict.fromkeys(f"{part}.{name}" for part in SEARCHABLE for name in keys[part]))


def unsearchable(key: str) -> tuple[str, str]:
    """Word the reason and the fix of a key that a space or an ablation cannot change."""
    part, _, _ = key.partition(".")
    if part in RunBase.model_fields and part not in SEARCHABLE:
        reason = f"{part}.* is the same for all trials"
        return reason, f"set it in `base`; keys of {', '.join(SEARCHABLE)} can vary"
    return "no such key can vary", nearest(key, searchable())
