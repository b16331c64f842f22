"""What a check of a config found, for people and for programs."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import Any

from raystt.checking.cost import Cost

PROGRESS = tuple(step / 10 for step in range(11))
"""Moments, as fractions of the horizon, at which the ratios of a schedule are shown."""


@dataclass(frozen=True)
class LanguageReport:
    """What a check says about one language.

    Attributes:
        language: Source language.
        pairs: Training pairs; None where the corpus is not prepared and the config takes all.
        trials: Trials of this language, fixed runs included; 1 for a run.
        epochs: How often a trial sees each pair; None where these are not known.
        tokens: Tokens of a trial that is pure speech throughout; text only makes it fewer.
    """

    language: str
    pairs: int | None
    trials: int
    epochs: float | None
    tokens: int


@dataclass(frozen=True)
class CheckReport:
    """A config that is fine, and what it amounts to.

    Attributes:
        file: Path of the config as it was given.
        kind: "run" or "search".
        name: Name in the config.
        steps: Optimiser steps of a trial, the horizon of its schedule.
        batch_utterances: Utterances a step.
        languages: One entry a language.
        counted: Whether tokens are counted from the prepared corpus, or guessed.
        lengths: What the lengths of the sentences are.
        ratios: Nominal text ratio at each moment of `PROGRESS`, by fixed run (or "schedule").
        achieved: Share of the words that is then text, of sentences of these lengths.
        labels: Short description of these schedules.
        cost: Estimate of hours, memory and disk; None if the model's sizes are not known.
        warnings: What is allowed but may not be meant.
        notes: What could not be checked yet.
    """

    file: str
    kind: str
    name: str
    steps: int
    batch_utterances: int
    languages: tuple[LanguageReport, ...]
    counted: bool
    lengths: str
    ratios: dict[str, tuple[float, ...]]
    achieved: dict[str, tuple[float, ...]]
    labels: dict[str, str]
    cost: Cost | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def trials(self) -> int:
        """Trials of all languages."""
        return sum(language.trials for language in self.languages)

    @property
    def tokens(self) -> int:
        """Tokens of all trials if none of them had any text: the most it can be."""
        return sum(language.trials * language.tokens for language in self.languages)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            **asdict(self),
            "progress": list(PROGRESS),
            "trials": self.trials,
            "tokens": self.tokens,
        }

    def render(self) -> str:
        """Return the report as plain text of several lines."""
        lines = [
            f"{self.file}: the {self.kind} {self.name!r} is fine",
            "",
            f"  trials   {self.trials}",
            f"  horizon  {self.steps} steps of {self.batch_utterances} utterances",
            f"  tokens   at most {_short(self.tokens)} in all "
            + ("(counted from the corpus)" if self.counted else "(a guess until it is prepared)"),
            "",
            "  language  train pairs  trials  epochs  tokens a trial",
        ]
        lines += [
            f"  {one.language:8}  {_or_all(one.pairs):>11}  {one.trials:6d}  "
            f"{'?' if one.epochs is None else f'{one.epochs:.1f}':>6}  {_short(one.tokens):>14}"
            for one in self.languages
        ]
        lines += ["", *self._ratios()]
        if self.cost is not None:
            assumed = f"assumed  {'; '.join((self.lengths, *self.cost.assumptions))}"
            lines += ["", "  estimates"]
            lines += [f"  {line}" for line in self.cost.render()]
            lines += textwrap.wrap(
                assumed, 100, initial_indent="  ", subsequent_indent=" " * 11,
                break_on_hyphens=False,
            )  # fmt: skip
        if self.warnings or self.notes:
            lines.append("")
        lines += [f"  warning: {text}" for text in self.warnings]
        lines += [f"  note: {text}" for text in self.notes]
        return "\n".join(lines)

    def _ratios(self) -> list[str]:
        """Return the table of nominal ratios and of what is achieved; equal runs share a line."""
        rows: dict[tuple[Any, ...], list[str]] = {}
        for name in self.ratios:
            key = (self.labels[name], self.ratios[name], self.achieved[name])
            rows.setdefault(key, []).append(name)
        width = max([8, *(len(names[0]) for names in rows.values())])
        lines = [
            f"  share of the words that is text by progress: nominal, and achieved with "
            f"{self.lengths.split(',')[0]}",
            "  " + " " * (width + 10) + "".join(f"{moment:>5.1f}" for moment in PROGRESS),
        ]
        for (label, nominal, achieved), names in rows.items():
            if len(names) > 1:
                label += f"; also {', '.join(names[1:])}"
            lines.append(f"  {names[0]:{width}} nominal  {_row(nominal)}   {label}")
            if any(abs(a - b) > 0.005 for a, b in zip(nominal, achieved, strict=True)):
                lines.append(f"  {'':{width}} achieved {_row(achieved)}")
        return lines


def _or_all(count: int | None) -> str:
    return "all" if count is None else str(count)


def _row(ratios: tuple[float, ...]) -> str:
    return "".join(f"{ratio:5.2f}" for ratio in ratios)


def _short(count: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
