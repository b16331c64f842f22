"""Where two configs differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ABSENT = object()


@dataclass(frozen=True)
class Change:
    """A key, as its path, and what it is in either config; written `a.b: 1 there, 2 asked`."""

    key: tuple[str, ...]
    there: Any
    asked: Any

    def __str__(self) -> str:
        there, asked = (
            "absent" if value is _ABSENT else repr(value) for value in (self.there, self.asked)
        )
        return f"{'.'.join(self.key)}: {there} there, {asked} asked"


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return in what two nested mappings differ, sorted by key; the order of keys is no change."""
    held, asked = _flat(before), _flat(after)
    found = (
        Change(key, held.get(key, _ABSENT), asked.get(key, _ABSENT))
        for key in sorted(held.keys() | asked.keys())
    )
    return [change for change in found if change.there != change.asked]


def _flat(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, (*above, name))
        else:
            flat[(*above, name)] = value
    return flat
