"""The text ratio as a pure function of training progress.

A schedule says which share of the words is text at each moment of a run. It depends on nothing but
progress, a fraction of the training horizon, so it stretches and shrinks with the budget, and any
segment of a run can be computed alone::

    schedule = from_dict({"shape": "linear", "initial": 0.9, "final": 0.0, "end": 0.8})
    schedule.ratio(0.4)             # 0.45
    schedule.values(0, 350, 350)    # the ratio of every step of a run of 350 steps

A new shape is a frozen dataclass below `Schedule`, registered by name; the contract that it must
keep is in `tests/test_schedule.py`, which runs over everything in `SHAPES`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

# Ratios are rounded to this many decimals: the staircase then has the decimal levels of the paper,
# and the last bit of a `cos` or `exp` that differs between two machines can turn no word.
DECIMALS = 12


class ScheduleError(ValueError):
    """Say which key of a schedule is wrong, why, and what to write instead.

    Attributes:
        key: The offending key, without any prefix (`hold`).
        reason: What is wrong with its value.
        fix: What to do about it.
    """

    def __init__(self, key: str, reason: str, fix: str) -> None:
        super().__init__(key, reason, fix)
        self.key = key
        self.reason = reason
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}; {self.fix}"


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Fall from an initial to a final text ratio, never rising.

    Attributes:
        initial: Ratio while progress <= `hold`, in [0, 1].
        final: Ratio from progress `end` on, in [0, `initial`]; 0.0 is exactly no text.
        hold: Progress up to which the initial ratio is kept, in [0, `end`).
        end: Progress at which the final ratio is reached, in (`hold`, 1].

    Raises:
        ScheduleError: A field is out of its range or not a number.
    """

    shape: ClassVar[str] = ""

    initial: float = 0.9
    final: float = 0.0
    hold: float = 0.0
    end: float = 0.8

    def __post_init__(self) -> None:
        for name in ("initial", "final", "hold", "end"):
            self._check(name, 0.0, 1.0)
        if self.final > self.initial:
            raise ScheduleError(
                "final",
                f"{self.final:g} is over initial ({self.initial:g}), and a ratio never rises",
                "lower final or raise initial",
            )
        if self.hold >= self.end:
            raise ScheduleError(
                "end",
                f"{self.end:g} is not after hold ({self.hold:g})",
                "raise end (at most 1) or lower hold",
            )

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

    def as_dict(self) -> dict[str, Any]:
        """Return the plain values that `from_dict` turns back into an equal schedule."""
        return {"shape": self.shape, **dataclasses.asdict(self)}

    def label(self) -> str:
        """Return a short name for people, such as `linear 0.9→0 by 0.8`."""
        text = f"{self.shape} {_short(self.initial)}→{_short(self.final)}"
        text += f" after {_short(self.hold)}" if self.hold else ""
        text += f" by {_short(self.end)}"
        own = [f.name for f in dataclasses.fields(self) if f.name not in _COMMON]
        return text + "".join(f", {name} {_short(getattr(self, name))}" for name in own)

    def _between(self, x: float) -> float:
        """Return the ratio between `hold` (x = 0) and `end` (x = 1), both excluded."""
        raise NotImplementedError(f"{type(self).__name__} must define _between(x)")

    def _check(self, name: str, low: float, high: float) -> None:
        """Refuse a field that is no number in [low, high]; keep it as a plain float.

        An integer 1 and a float 1.0 must give one schedule, one hash and one fingerprint.
        """
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise ScheduleError(name, f"{value!r} is not a number", _range_fix(low, high))
        number = float(value) + 0.0  # turns -0.0 into 0.0
        if math.isnan(number):
            raise ScheduleError(name, "nan is not a number", _range_fix(low, high))
        if not low <= number <= high:
            reason = f"{number:g} is " + (f"under {low:g}" if number < low else f"over {high:g}")
            raise ScheduleError(name, reason, _range_fix(low, high))
        object.__setattr__(self, name, number)


def _short(number: float) -> str:
    return f"{round(number, 3):g}"


def _range_fix(low: float, high: float) -> str:
    return f"give a number from {low:g} to {high:g}"


_COMMON = tuple(field.name for field in dataclasses.fields(Schedule))

SHAPES: dict[str, type[Schedule]] = {}


def register(name: str) -> Callable[[type[Schedule]], type[Schedule]]:
    """Make a shape known under the name that a config uses.

    Args:
        name: The value of the key `shape`; lower case.

    Returns:
        A class decorator.

    Raises:
        ValueError: Another class has the name already.
    """

    def add(cls: type[Schedule]) -> type[Schedule]:
        if name in SHAPES:
            raise ValueError(
                f"shape {name!r} is taken by {SHAPES[name].__name__}; choose a new name"
            )
        cls.shape = name
        SHAPES[name] = cls
        return cls

    return add


def from_dict(values: Mapping[str, Any]) -> Schedule:
    """Build the schedule that a mapping describes.

    Args:
        values: `shape` and any fields of that shape; what is missing has the shape's default.

    Returns:
        The schedule.

    Raises:
        ScheduleError: A key or value is wrong; it names the key and the fix. It is a ValueError.
    """
    if "shape" not in values:
        raise ScheduleError("shape", "is missing", f"give one of {', '.join(SHAPES)}")
    name = values["shape"]
    if not isinstance(name, str) or name not in SHAPES:
        near = difflib.get_close_matches(name, SHAPES, n=1) if isinstance(name, str) else []
        fix = f"did you mean {near[0]!r}?" if near else f"give one of {', '.join(SHAPES)}"
        raise ScheduleError("shape", f"{name!r} is not a known shape", fix)
    cls = SHAPES[name]
    fields = [field.name for field in dataclasses.fields(cls)]
    for key in values:
        if key != "shape" and key not in fields:
            raise _unknown(str(key), name, fields)
    return cls(**{key: value for key, value in values.items() if key != "shape"})


def _unknown(key: str, name: str, fields: list[str]) -> ScheduleError:
    owners = [s for s, c in SHAPES.items() if key in (f.name for f in dataclasses.fields(c))]
    if owners:
        fix = f"remove it or set shape: {' or '.join(owners)}"
        return ScheduleError(key, f"the shape {name} has no such key", fix)
    near = difflib.get_close_matches(key, fields, n=1)
    fix = f"did you mean {near[0]!r}?" if near else f"{name} has {', '.join(fields)}"
    return ScheduleError(key, "is not a key of a schedule", fix)


@register("constant")
@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """Keep the initial ratio to the end; at 0 this is training without interleaving.

    The other fields are checked and then set to what they amount to, so that two schedules with
    the same ratios are equal.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "final", self.initial)
        object.__setattr__(self, "hold", 0.0)
        object.__setattr__(self, "end", 1.0)

    def label(self) -> str:
        """Return a short name for people, such as `constant 0.3`."""
        return f"{self.shape} {_short(self.initial)}"

    def _between(self, x: float) -> float:
        return self.initial


@register("linear")
@dataclasses.dataclass(frozen=True)
class Linear(Schedule):
    """Fall by the same amount at every step."""

    def _between(self, x: float) -> float:
        return self.final + (self.initial - self.final) * (1.0 - x)


@register("cosine")
@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """Fall along half a cosine: slowly at first and at last."""

    def _between(self, x: float) -> float:
        return self.final + (self.initial - self.final) * 0.5 * (1.0 + math.cos(math.pi * x))


@register("exponential")
@dataclasses.dataclass(frozen=True)
class Exponential(Schedule):
    """Fall fast at first: a decay by e^-rate, shifted so that it meets `final` exactly at `end`.

    Attributes:
        rate: Time constants between `hold` and `end`, in [0.1, 50].
    """

    rate: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("rate", 0.1, 50.0)

    def _between(self, x: float) -> float:
        left = math.expm1(self.rate * (1.0 - x)) / math.expm1(self.rate)
        return self.final + (self.initial - self.final) * left


@register("polynomial")
@dataclasses.dataclass(frozen=True)
class Polynomial(Schedule):
    """Fall as (1 - x)^power: over 1 fast at first, under 1 fast at last.

    Attributes:
        power: The exponent, in [0.1, 10]; 1 is linear.
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("power", 0.1, 10.0)

    def _between(self, x: float) -> float:
        return self.final + (self.initial - self.final) * math.pow(1.0 - x, self.power)


@register("sigmoid")
@dataclasses.dataclass(frozen=True)
class Sigmoid(Schedule):
    """Fall around the middle: a logistic curve, stretched to meet both ends exactly.

    Attributes:
        steepness: Slope of the logistic curve over the way from `hold` to `end`, in [0.1, 100].
    """

    steepness: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("steepness", 0.1, 100.0)

    def _between(self, x: float) -> float:
        # The logistic function as a tanh: stays exact where exponentials would cancel.
        at = math.tanh(self.steepness * (x - 0.5) / 2.0) / math.tanh(self.steepness / 4.0)
        return self.final + (self.initial - self.final) * 0.5 * (1.0 - at)


@register("staircase")
@dataclasses.dataclass(frozen=True)
class Staircase(Schedule):
    """Fall by `step` at equal intervals: the schedule of the paper, from 0.9 by 0.1 to 0.

    The way from `hold` to `end` has n = round((initial - final) / step) intervals. Level k,
    initial - k * step, starts at progress hold + k * (end - hold) / n; `final` starts at `end`.

    Attributes:
        step: Drop from one level to the next, in [0.001, 1].
    """

    step: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("step", 0.001, 1.0)

    def _between(self, x: float) -> float:
        intervals = max(1, round((self.initial - self.final) / self.step))
        # A level starts at a step of the optimiser: s / horizon rarely hits the border exactly,
        # and a last bit too little must not keep the level before for one step more.
        level = math.floor(x * intervals + 1e-9)
        return self.initial - level * self.step if level < intervals else self.final
