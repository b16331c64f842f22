"""Types of values that many parts of a config have."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from raystt import remote
from raystt.strict import Complaint, Invalid


def _name(value: str) -> str:
    if not value or value.strip(".") == "" or not all(c.isalnum() or c in "-_." for c in value):
        reason = f"{value!r} cannot name a directory"
        raise Invalid([Complaint((), reason, "use letters, digits, '-', '_' and '.'")])
    return value


def _directory(value: str) -> str:
    try:
        remote.local(value)
    except remote.NoStore as error:
        reason, _, fix = str(error).partition("; ")
        raise Invalid([Complaint((), reason, fix)]) from None
    return value


def _language(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", value):
        reason = f"{value!r} is no code of a language, and directories are named by it"
        raise Invalid([Complaint((), reason, "write one such as es, pt-BR or zh-Hant-TW")])
    return value


Name = Annotated[str, AfterValidator(_name)]
Directory = Annotated[str, Field(min_length=1), AfterValidator(_directory)]
Language = Annotated[str, AfterValidator(_language)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
