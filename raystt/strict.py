"""Frozen values that check themselves: what schedules, interleavings and configs are built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

Location = tuple[str | int, ...]
"""Keys and indices that lead to a value, from the top of a file or of a mapping in it."""


class Part(BaseModel):
    """A frozen mapping that refuses unknown keys and does not convert types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Complaint:
    """What is wrong at `location`, which is relative to the value being validated.

    `reads` are the other places that it follows from: it means nothing while one of them is
    unknown.
    """

    location: Location
    reason: str
    fix: str
    reads: tuple[Location, ...] = ()


class Invalid(ValueError):
    """Several complaints at once, for validators that look at more than one key.

    Args:
        complaints: At least one.
        reads: Keys that the validator looks at; everything in the mapping if it is not given.
    """

    def __init__(self, complaints: Sequence[Complaint], reads: Sequence[Location] = ((),)) -> None:
        super().__init__("\n".join(f"{c.reason}; {c.fix}" for c in complaints))
        self.complaints = tuple(complaints)
        self.reads = tuple(reads)
