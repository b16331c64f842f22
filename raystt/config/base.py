"""What all parts of a config are built from."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from raystt.config.validation import Complaint, Invalid


class Part(BaseModel):
    """A frozen mapping that refuses unknown keys and does not convert types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _name(value: str) -> str:
    if not value or value.strip(".") == "" or not all(c.isalnum() or c in "-_." for c in value):
        reason = f"{value!r} cannot name a directory"
        raise Invalid([Complaint((), reason, "use letters, digits, '-', '_' and '.'")])
    return value


Name = Annotated[str, AfterValidator(_name)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
