"""The text ratio as a pure function of training progress.

A schedule says which share of the words is text at each moment of a run. It depends on nothing but
progress, a fraction of the training horizon, so it stretches and shrinks with the budget, and any
segment of a run can be computed alone::

    schedule = Linear(initial=0.9, end=0.8)
    schedule.ratio(0.4)             # 0.45
    schedule.values(0, 350, 350)    # the ratio of every step of a run of 350 steps

The shapes are also the part `schedule` of a config, where `shape` says which one is meant. A new
shape is a class below `Schedule`, named in both unions below; the contract that it must keep is in
`tests/test_schedule.py`, which runs over everything in `SHAPES`.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from raystt.strict import Complaint, Invalid, Part

# Ratios are rounded to this many decimals: the staircase then has the decimal levels of the paper,
# and the last bit of a `cos` or `exp` that differs between two machines can turn no word.
DECIMALS = 12

# A plain float, and no -0.0: equal schedules have one hash and one fingerprint.
Number = Annotated[float, AfterValidator(lambda value: float(value) + 0.0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]


class Schedule(Part):
    """Fall from an initial to a final text ratio, never rising.

    Raises:
        pydantic.ValidationError: A field is out of its range or not a number. It is a ValueError.
    """

    shape: str
    initial: Fraction = Field(default=0.9, description="ratio while progress <= hold")
    final: Fraction = Field(
        default=0.0, description="ratio from progress end on, at most initial; 0 is no text at all"
    )
    hold: Fraction = Field(default=0.0, description="progress up to which initial is kept")
    end: Fraction = Field(
        default=0.8, description="progress at which final is reached, later than hold"
    )

    @model_validator(mode="after")
    def _falls(self) -> Schedule:
        found = []
        if self.final > self.initial:
            reason = f"{self.final:g} is over initial ({self.initial:g}), and a ratio never rises"
            found.append(Complaint(("final",), reason, "lower final or raise initial"))
        if self.hold >= self.end:
            reason = f"{self.end:g} is not after hold ({self.hold:g})"
            found.append(Complaint(("end",), reason, "raise end (at most 1) or lower hold"))
        if found:
            raise Invalid(found)
        return self

    def ratio(self, progress: float) -> float:
        """Return the text ratio at a moment of training.

        Args:
            progress: Fraction of the horizon that is behind, in [0, 1].

        Returns:
            The ratio, in [`final`, `initial`].

        Raises:
            ValueError: Progress is outside [0, 1].
        """
        if not 0.0 <= progress <= 1.0:
            raise ValueError(f"progress is {progress}; give a fraction of the horizon in [0, 1]")
        if progress >= self.end:
            return self.final
        if progress <= self.hold:
            return self.initial
        between = self._between((progress - self.hold) / (self.end - self.hold))
        return min(self.initial, max(self.final, round(between, DECIMALS)))

    def values(self, start_step: int, stop_step: int, horizon: int) -> npt.NDArray[np.float64]:
        """Return the ratio of each step of a segment.

        Args:
            start_step: First step, counted from 0.
            stop_step: The step after the last one, at most `horizon`.
            horizon: Steps of the whole run; step s has progress s / `horizon`.

        Returns:
            float64 [`stop_step` - `start_step`], equal to what `ratio` gives for each step.

        Raises:
            ValueError: The steps are not within the horizon.
        """
        if not 0 <= start_step <= stop_step <= horizon:
            raise ValueError(
                f"steps {start_step}..{stop_step} of a horizon of {horizon}; "
                "give 0 <= start_step <= stop_step <= horizon"
            )
        steps = range(start_step, stop_step)
        return np.fromiter((self.ratio(s / horizon) for s in steps), np.float64, len(steps))

    def sides(self) -> tuple[Schedule, Schedule]:
        """Return the schedules of source and target, which are this one."""
        return self, self

    def label(self) -> str:
        """Return a short name for people, such as `linear 0.9→0 by 0.8`."""
        text = f"{self.shape} {_short(self.initial)}→{_short(self.final)}"
        text += f" after {_short(self.hold)}" if self.hold else ""
        text += f" by {_short(self.end)}"
        own = [name for name in type(self).model_fields if name not in Schedule.model_fields]
        return text + "".join(f", {name} {_short(getattr(self, name))}" for name in own)

    def _between(self, x: float) -> float:
        """Return the ratio between `hold` (x = 0) and `end` (x = 1), both excluded."""
        raise NotImplementedError(f"{type(self).__name__} must define _between(x)")


def _short(number: float) -> str:
    return f"{round(number, 3):g}"


class Constant(Schedule):
    """Keep the initial ratio to the end; at 0 this is training without interleaving.

    The other fields are checked and then set to what they amount to, so that two schedules with
    the same ratios are equal.
    """

    shape: Literal["constant"] = "constant"

    @model_validator(mode="after")
    def _amounts_to(self) -> Constant:
        self.__dict__.update(final=self.initial, hold=0.0, end=1.0)  # frozen for all but itself
        return self

    def label(self) -> str:
        """Return a short name for people, such as `constant 0.3`."""
        return f"{self.shape} {_short(self.initial)}"

    def _between(self, x: float) -> float:
        return self.initial


class Linear(Schedule):
    """Fall by the same amount at every step."""

    shape: Literal["linear"] = "linear"

    def _between(self, x: float) -> float:
        return self.final + (self.initial - self.final) * (1.0 - x)


class Cosine(Schedule):
    """Fall along half a cosine: slowly at first and at last."""

    shape: Literal["cosine"] = "cosine"

    def _between(self, x: float) -> float:
        return self.final + (self.initial - self.final) * 0.5 * (1.0 + math.cos(math.pi * x))


class Exponential(Schedule):
    """Fall fast at first: a decay by e^-rate, shifted so that it meets `final` exactly at `end`."""

    shape: Literal["exponential"] = "exponential"
    rate: Number = Field(
        default=5.0, ge=0.1, le=50, description="time constants between hold and end"
    )

    def _between(self, x: float) -> float:
        left = math.expm1(self.rate * (1.0 - x)) / math.expm1(self.rate)
        return self.final + (self.initial - self.final) * left


class Polynomial(Schedule):
    """Fall as (1 - x)^power: over 1 fast at first, under 1 fast at last."""

    shape: Literal["polynomial"] = "polynomial"
    power: Number = Field(default=2.0, ge=0.1, le=10, description="the exponent; 1 is linear")

    def _between(self, x: float) -> float:
        return self.final + (self.initial - self.final) * math.pow(1.0 - x, self.power)


class Sigmoid(Schedule):
    """Fall around the middle: a logistic curve, stretched to meet both ends exactly."""

    shape: Literal["sigmoid"] = "sigmoid"
    steepness: Number = Field(
        default=10.0, ge=0.1, le=100, description="slope of the curve on the way from hold to end"
    )

    def _between(self, x: float) -> float:
        # The logistic function as a tanh: stays exact where exponentials would cancel.
        at = math.tanh(self.steepness * (x - 0.5) / 2.0) / math.tanh(self.steepness / 4.0)
        return self.final + (self.initial - self.final) * 0.5 * (1.0 - at)


class Staircase(Schedule):
    """Fall by `step` at equal intervals: the schedule of the paper, from 0.9 by 0.1 to 0.

    The way from `hold` to `end` has n = round((initial - final) / step) intervals. Level k,
    initial - k * step, starts at progress hold + k * (end - hold) / n; `final` starts at `end`.
    """

    shape: Literal["staircase"] = "staircase"
    step: Number = Field(default=0.1, ge=0.001, le=1, description="drop from one level to the next")

    def _between(self, x: float) -> float:
        intervals = max(1, round((self.initial - self.final) / self.step))
        # A level starts at a step of the optimiser: s / horizon rarely hits the border exactly,
        # and a last bit too little must not keep the level before for one step more.
        level = math.floor(x * intervals + 1e-9)
        return self.initial - level * self.step if level < intervals else self.final


class Knots(Schedule):
    """Fall in three straight pieces: a family that comes near any schedule that never rises.

    The two knots between `hold` and `end` are given as shares of what is left, so that any values
    in the ranges make a schedule, and none makes a ratio rise. The defaults make it linear. The
    way from `hold` to `end` and the fall from `initial` to `final` taken as 1, the first knot lies
    at x1 = first_at, y1 = first_left, the second at x2 = x1 + second_at * (1 - x1),
    y2 = y1 * second_left.
    """

    shape: Literal["knots"] = "knots"
    first_at: Number = Field(
        default=1 / 3, ge=0.01, le=0.99, description="share of the way that lies before knot 1"
    )
    first_left: Fraction = Field(
        default=2 / 3, description="share of the fall that is left after knot 1"
    )
    second_at: Number = Field(
        default=1 / 2, ge=0.01, le=0.99,
        description="share of the way after knot 1 that lies before knot 2",
    )  # fmt: skip
    second_left: Fraction = Field(
        default=1 / 2, description="share of what is left at knot 1 that is left after knot 2"
    )

    def points(self) -> list[tuple[float, float]]:
        """Return (progress, ratio) where the pieces meet, from `hold` to `end`."""
        way, fall = self.end - self.hold, self.initial - self.final
        return [(self.hold + way * x, self.final + fall * left) for x, left in self._knots()]

    def label(self) -> str:
        """Return a short name for people, such as `knots 0.9 0.6@0.27 0.3@0.53 0@0.8`."""
        first, *rest = self.points()
        after = f" after {_short(self.hold)}" if self.hold else ""
        parts = [f"{round(ratio, 2):g}@{round(progress, 2):g}" for progress, ratio in rest]
        return " ".join([f"{self.shape} {_short(first[1])}{after}", *parts])

    def _knots(self) -> list[tuple[float, float]]:
        x1, y1 = self.first_at, self.first_left
        return [(0.0, 1.0), (x1, y1), (x1 + self.second_at * (1 - x1), y1 * self.second_left),
                (1.0, 0.0)]  # fmt: skip

    def _between(self, x: float) -> float:
        knots = self._knots()
        (x0, y0), (x1, y1) = next(
            pair for pair in zip(knots[:-1], knots[1:], strict=True) if x <= pair[1][0]
        )
        left = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        return self.final + (self.initial - self.final) * left


OneSchedule = Annotated[
    Constant | Linear | Cosine | Exponential | Polynomial | Sigmoid | Staircase | Knots,
    Field(discriminator="shape"),
]
"""Type of a field that holds a schedule for one side, of any shape."""

SHAPES: dict[str, type[Schedule]] = {
    shape.model_fields["shape"].default: shape
    for shape in typing.get_args(typing.get_args(OneSchedule)[0])
}
"""The shapes by the value of the key `shape`."""


class Apart(Part):
    """A schedule for the source words and another one for the target words.

    It has the interface of a `Schedule`; its ratio is the mean of both.
    """

    shape: Literal["apart"] = "apart"
    source: OneSchedule = Field(default=Staircase(), description="of the words that are heard")
    target: OneSchedule = Field(default=Staircase(), description="of the words that are spoken")

    def sides(self) -> tuple[Schedule, Schedule]:
        """Return the schedules of source and target."""
        return self.source, self.target

    def ratio(self, progress: float) -> float:
        """Return the mean of both ratios at a moment of training; see `Schedule.ratio`."""
        return (self.source.ratio(progress) + self.target.ratio(progress)) / 2

    def values(self, start_step: int, stop_step: int, horizon: int) -> npt.NDArray[np.float64]:
        """Return the mean of both ratios for each step of a segment; see `Schedule.values`."""
        source, target = (side.values(start_step, stop_step, horizon) for side in self.sides())
        return (source + target) / 2

    def label(self) -> str:
        """Return a short name for people, such as `linear 0.9→0 by 0.8 / constant 0`."""
        return f"{self.source.label()} / {self.target.label()}"


AnySchedule = Annotated[
    Constant | Linear | Cosine | Exponential | Polynomial | Sigmoid | Staircase | Knots | Apart,
    Field(discriminator="shape"),
]
"""Type of a field that holds a schedule: one for both sides, or one for each."""

_ADAPTER: TypeAdapter[Schedule | Apart] = TypeAdapter(AnySchedule)


def from_dict(values: Mapping[str, Any]) -> Schedule | Apart:
    """Build the schedule that plain values describe: `shape`, and fields that differ from its own.

    Raises:
        pydantic.ValidationError: A key or value is wrong. It is a ValueError.
    """
    return _ADAPTER.validate_python(dict(values))
