"""One entry of a search space: the values of one key, and when it is searched at all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Protocol

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from raystt.strict import Complaint, Invalid, Part

_LARGEST = 2**53
"""Samplers draw whole numbers, too, as floats."""

_DECIMALS = 10  # of values with a step

Value = bool | int | float | str


class Trial(Protocol):
    """What is used of `optuna.Trial`."""

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...


def _scalars(values: tuple[Any, ...]) -> tuple[Any, ...]:
    complaints, seen = [], set()
    for index, value in enumerate(values):
        if not isinstance(value, Value) or value in (math.inf, -math.inf) or value != value:
            fix = "give numbers, words, true or false"
            complaints.append(Complaint((index,), f"{value!r} is not a plain value", fix))
        elif (isinstance(value, bool), value) in seen:
            complaints.append(Complaint((index,), f"{value!r} stands twice", "remove one"))
        else:
            seen.add((isinstance(value, bool), value))
    if complaints:
        raise Invalid(complaints)
    return values


def _listed(value: Any) -> Any:
    """Let a condition be one value or a list of them."""
    if isinstance(value, dict):
        return {
            key: item if isinstance(item, (list, tuple)) else (item,) for key, item in value.items()
        }
    return value


def same(a: Any, b: Any) -> bool:
    """Compare two scalars; true is not 1."""
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


Scalars = Annotated[tuple[Any, ...], Field(min_length=1, strict=False), AfterValidator(_scalars)]
Pair = Field(strict=False)


class Entry(Part):
    """The values of one key, and when it is searched at all."""

    choice: Scalars | None = Field(default=None, description="one of these values")
    float_: Annotated[tuple[float, float], Pair] | None = Field(
        default=None, alias="float", description="a number from low to high, both included"
    )
    int_: Annotated[tuple[int, int], Pair] | None = Field(
        default=None, alias="int", description="a whole number from low to high, both included"
    )
    log: bool = Field(default=False, description="draw the logarithm evenly")
    step: float | None = Field(default=None, gt=0, description="draw multiples of this above low")
    when: Annotated[
        dict[str, Scalars],
        BeforeValidator(_listed, json_schema_input_type=dict[str, Scalars | Value]),
    ] = Field(default_factory=dict, description="searched only while other keys take these values")
    languages: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="searched for these languages only; empty = all"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Entry:
        complaints = list(self._complaints())
        if complaints:
            raise Invalid(complaints)
        return self

    def _complaints(self) -> Iterator[Complaint]:
        kinds = [
            name
            for name, value in (("choice", self.choice), ("float", self.float_), ("int", self.int_))
            if value is not None
        ]
        if len(kinds) != 1:
            found = "none of them" if not kinds else " and ".join(kinds)
            fix = "give exactly one of `choice`, `float`, `int`"
            yield Complaint((), f"an entry has one kind of values, found {found}", fix)
            return
        kind = kinds[0]
        if self.choice is not None:
            for name in ("log", "step"):
                if getattr(self, name):
                    yield Complaint((name,), f"a choice has no {name}", "remove it")
            return
        low, high = self.bounds
        if max(abs(low), abs(high)) > _LARGEST:
            reason = f"it goes beyond {_LARGEST}, where numbers have gaps"
            yield Complaint((kind,), reason, "give smaller numbers")
            return
        if low >= high:
            reason = f"low {low:g} is not below high {high:g}"
            yield Complaint((kind,), reason, "write [low, high]; one value goes into `base`")
        if self.log and low <= 0:
            yield Complaint((kind,), f"a logarithm needs low > 0, found {low:g}", "raise low")
        if self.step is not None:
            if self.log:
                yield Complaint(("step",), "`log` and `step` exclude each other", "keep one")
            if self.int_ is not None and self.step != int(self.step):
                yield Complaint(("step",), f"{self.step:g} is not whole", "give a whole number")
            if self.step < 10.0 ** (1 - _DECIMALS):
                reason = f"{self.step:g} is too small: values have {_DECIMALS} decimals"
                yield Complaint(("step",), reason, "leave it out")
            if self.step > high - low > 0:
                reason = f"{self.step:g} is more than high - low = {high - low:g}"
                yield Complaint(("step",), reason, "give a smaller step")

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not set."""
        return {
            key: value
            for key, value in handler(self).items()
            if value not in (None, {}, ()) and value != [] and value is not False
        }

    @property
    def kind(self) -> str:
        """The key that gives the values: `choice`, `float` or `int`."""
        if self.choice is not None:
            return "choice"
        return "float" if self.float_ is not None else "int"

    @property
    def bounds(self) -> tuple[float, float]:
        """Low and high of a `float` or `int` entry."""
        bounds = self.float_ or self.int_
        if bounds is None:
            raise ValueError("a choice has no bounds")
        return bounds

    def extremes(self) -> tuple[Any, ...]:
        """All values of a choice; low and the highest value taken of a range."""
        if self.choice is not None:
            return self.choice
        low, high = self.bounds
        if self.step is not None:
            high = low + int((high - low) / self.step + 1e-9) * self.step
            low, high = tidy(low), tidy(high)
        return (low, high) if self.int_ is None else (int(low), int(high))

    @property
    def finite(self) -> bool:
        """Whether its values can be told one by one."""
        return self.float_ is None or self.step is not None

    def values(self) -> Iterator[Any]:
        """Go through all values of a finite entry."""
        if self.choice is not None:
            yield from self.choice
            return
        (low, high), step = self.extremes(), self.step or 1
        for k in range(round((high - low) / step) + 1):
            yield tidy(low + k * step) if self.int_ is None else low + k * int(step)

    @property
    def has_numbers(self) -> bool:
        """Whether its values have an order."""
        return not any(isinstance(value, (bool, str)) for value in self.extremes())

    def ends(self) -> tuple[Any, ...]:
        """The extremes, of a choice among numbers the lowest and the highest alone."""
        values = self.extremes()
        ordered = self.has_numbers and len(values) > 1
        return (min(values), max(values)) if ordered else values

    def within(self, other: Entry) -> bool:
        """Say whether another entry takes all values of this one, as often as this one is asked."""
        if self.kind != other.kind or (self.log, self.step) != (other.log, other.step):
            return False
        mine, theirs = set(self.languages), set(other.languages)  # none = all
        if self.when != other.when or (theirs and not (mine and mine <= theirs)):
            return False
        if self.choice is not None:
            return all(other.takes(value) for value in self.choice)
        (low, high), (lowest, highest) = self.bounds, other.bounds
        return lowest <= low and high <= highest and (self.step is None or low == lowest)

    def middle(self) -> Any:
        """A value that is no extreme, where there is one."""
        values = self.extremes()
        if self.choice is not None or self.step is not None:
            return values[0]
        low, high = self.bounds
        middle = math.sqrt(low * high) if self.log else (low + high) / 2
        return round(middle) if self.int_ is not None else middle

    def takes(self, value: Any) -> bool:
        """Say whether a condition on `value` can come true; never for a float."""
        if self.choice is not None:
            return any(same(value, option) for option in self.choice)
        if self.int_ is None or not isinstance(value, int) or isinstance(value, bool):
            return False
        low, high = self.int_
        return low <= value <= high and (value - low) % int(self.step or 1) == 0

    def suggest(self, trial: Trial, key: str) -> Any:
        """Ask an Optuna trial for a value."""
        if self.choice is not None:
            return trial.suggest_categorical(key, list(self.choice))
        if self.int_ is not None:
            low, high = self.int_
            step = int(self.step or 1)
            return trial.suggest_int(key, low, high, step=step, log=self.log)
        low_, high_ = self.bounds
        value = trial.suggest_float(key, low_, high_, step=self.step, log=self.log)
        return value if self.step is None else tidy(value)


def tidy(value: float) -> float:
    """Drop the rounding error of low + k * step, so that equal values are equal bits."""
    return round(value, _DECIMALS)
