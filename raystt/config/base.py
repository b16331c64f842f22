"""Types of values that many parts of a config have."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from raystt.strict import Complaint, Invalid


def _name(value: str) -> str:
    if not value or value.strip(".") == "" or not all(c.isalnum() or c in "-_." for c in value):
        reason = f"{value!r} cannot name a directory"
        raise Invalid([Complaint((), reason, "use letters, digits, '-', '_' and '.'")])
    return value


Name = Annotated[str, AfterValidator(_name)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
