"""What a check of a config found, for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from raystt.checking.cost import Cost
from raystt.config.yaml_source import ConfigError, Problem
from raystt.errors import BadInput

PROGRESS = tuple(step / 10 for step in range(11))
"""Moments, as fractions of the horizon, at which the ratios of a schedule are shown."""
WIDTH = 80
"""Columns of the report; paths and names longer than a line stay whole."""


@dataclass(frozen=True)
class LanguageReport:
    """What a check says about one language."""

    language: str
    pairs: int | None  # to train on; None where nobody has counted them
    trials: int  # fixed runs included; 1 for a run
    fresh: int  # trainings on fresh seeds, at most
    epochs: float | None  # how often a trial sees each pair, guessed where `pairs` is None
    tokens: int  # of a trial that is pure speech throughout; text only makes it fewer


@dataclass(frozen=True)
class ScheduleReport:
    """The ratios of a fixed run at the moments of `PROGRESS`, as given and as achieved."""

    label: str
    nominal: tuple[float, ...]
    achieved: tuple[float, ...]  # share of the words that is text


@dataclass(frozen=True)
class Report:
    """A config, what it amounts to, and what is wrong with it."""

    file: str  # as it was given; "" for a config that is in no file
    kind: str  # "run" or "search"
    name: str
    steps: int
    batch_utterances: int
    languages: tuple[LanguageReport, ...]
    counted: bool  # whether tokens are counted from the prepared corpus, or guessed
    lengths: str  # what the lengths of the sentences are
    schedules: dict[str, ScheduleReport]  # of the fixed runs by name; of a run as "schedule"
    cost: Cost | None  # None if the model's sizes are not known
    problems: tuple[Problem, ...]  # what keeps it from running on this machine
    warnings: tuple[str, ...]  # what is allowed but may not be meant
    notes: tuple[str, ...]  # what could not be checked yet

    @property
    def trials(self) -> int:
        """Trials of all languages."""
        return sum(language.trials for language in self.languages)

    @property
    def fresh(self) -> int:
        """Trainings on fresh seeds, of all languages."""
        return sum(language.fresh for language in self.languages)

    @property
    def tokens(self) -> int:
        """Tokens of all trials if none of them had any text: the most it can be."""
        return sum(
            (language.trials + language.fresh) * language.tokens for language in self.languages
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; with problems it is an error as of `error_dict` too."""
        wrong = error_dict(ConfigError(self.problems)) if self.problems else {}
        totals = {"progress": list(PROGRESS), "trials": self.trials, "tokens": self.tokens}
        return {**asdict(self), **totals, **wrong}

    def render(self) -> str:
        """Return the report as plain text of several lines."""
        count = len(self.problems)
        state = f"has {count} problem{'s' if count > 1 else ''}, see below" if count else "is fine"
        fresh = f", and {self.fresh} trainings on fresh seeds" if self.fresh else ""
        basis = "counted from the corpus" if self.counted else "a guess until it is prepared"
        lines = [
            f"{self.file or 'config'}: the {self.kind} {self.name!r} {state}",
            "",
            f"  trials   {self.trials}{fresh}",
            f"  horizon  {self.steps} steps of {self.batch_utterances} utterances",
            f"  tokens   at most {si(self.tokens)} in all ({basis})",
            "",
            "  language  train pairs  trials  epochs  tokens a trial",
        ]
        for one in self.languages:
            pairs = "all" if one.pairs is None else one.pairs
            epochs = "?" if one.epochs is None else f"{one.epochs:.1f}"
            row = f"  {one.language:8}  {pairs:>11}  {one.trials:6d}  {epochs:>6}"
            lines.append(f"{row}  {si(one.tokens):>14}")
        lines += ["", *self._ratios(), *self._estimates()]
        told = [("problem:", str(problem)) for problem in self.problems]
        told += [("warning:", text) for text in self.warnings]
        told += [("note:", text) for text in self.notes]
        lines += [""] if told else []
        lines += [line for kind, text in told for line in _wrapped(kind, text)]
        return "\n".join(lines)

    def _ratios(self) -> Iterator[str]:
        """Draw the table of nominal ratios and of what is achieved; equal runs share a block."""
        blocks: dict[ScheduleReport, list[str]] = {}
        for name, one in self.schedules.items():
            blocks.setdefault(one, []).append(name)
        if blocks:
            yield "  share of the words that is text, by progress"
            yield " " * 13 + _row(PROGRESS, 1)
        for one, names in blocks.items():
            also = f"; also {', '.join(names[1:])}" if names[1:] else ""
            yield from _wrapped(f"{names[0]}:", f"{one.label}{also}")
            yield f"    nominal  {_row(one.nominal, 2)}"
            if any(abs(a - b) > 0.005 for a, b in zip(one.nominal, one.achieved, strict=True)):
                yield f"    achieved {_row(one.achieved, 2)}"

    def _estimates(self) -> Iterator[str]:
        cost = self.cost
        if cost is None:
            return
        hours = ", ".join(f"{name} {_hours(part)}" for name, part in cost.hours.items() if part)
        unit = f"{'GPU' if cost.limits else 'CPU'}-hours"
        time = f"{_time(cost.days)} on {cost.devices:g} if none is ever idle"
        yield from ("", "  estimates")
        for head, text in (
            ("model", f"{si(cost.parameters)} parameters, units included"),
            ("compute", f"{_hours(sum(cost.hours.values()))} {unit}: {hours}; {time}"),
            *((head, _parts(parts)) for head, parts in cost.memory.items()),
            ("disk", _parts(cost.disk)),
            ("assumed", "; ".join((self.lengths, *cost.assumptions))),
        ):
            yield from _wrapped(head, text)


def error_dict(error: Exception) -> dict[str, Any]:
    """Return an error as plain data: its text, and where it is known each problem of the file."""
    problems = error.problems if isinstance(error, ConfigError) else ()
    kind = {} if isinstance(error, BadInput) else {"type": type(error).__name__}
    return {"error": str(error), **kind, "problems": [asdict(problem) for problem in problems]}


def si(number: float, unit: str = "") -> str:
    """Write a number with three digits and a prefix: 347 GB."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:.3g} {prefix}{unit}"
    return f"{number:.3g} {unit}".rstrip()


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        f"{head:9} {text}", WIDTH, initial_indent="  ", subsequent_indent=" " * 12,
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip


def _row(ratios: tuple[float, ...], digits: int) -> str:
    return "".join(f"{ratio:5.{digits}f}" for ratio in ratios)


def _parts(parts: dict[str, float]) -> str:
    """Write a sum of bytes and what is at least a hundredth of it."""
    total = sum(parts.values())
    large = (f"{name} {si(count, 'B')}" for name, count in parts.items() if count > total / 100)
    return f"{si(total, 'B')}: {', '.join(large)}"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _time(days: float) -> str:
    if days >= 2:
        return f"{days:,.1f} days"
    return f"{days * 24:.1f} h" if days * 24 >= 2 else f"{days * 1440:.0f} min"
