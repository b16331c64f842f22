"""What a check of a config found, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from raystt.corpus.card import SplitCard

PROGRESS = tuple(step / 10 for step in range(11))
"""Moments, as fractions of the horizon, at which the ratios of a schedule are shown."""

# Of one pair of the embedded corpus, both sides together: what stands in for the counts of a
# corpus that is not prepared yet. Good to a factor of about two.
_TYPICAL_UNITS = 85.0
_TYPICAL_WORDS = 15.0


@dataclass(frozen=True)
class LanguageReport:
    """What a check says about one language.

    Attributes:
        language: Source language.
        pairs: Training pairs.
        trials: Trials of this language, references included; 1 for a run.
        epochs: How often a trial sees each pair.
        tokens: Tokens of a trial that is pure speech throughout; text only makes it fewer.
    """

    language: str
    pairs: int
    trials: int
    epochs: float
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
        ratios: Nominal text ratio at each moment of `PROGRESS`, by reference (or "schedule").
        labels: Short description of these schedules.
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
    ratios: dict[str, tuple[float, ...]]
    labels: dict[str, str]
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
            f"  {one.language:8}  {one.pairs:11d}  {one.trials:6d}  {one.epochs:6.1f}"
            f"  {_short(one.tokens):>14}"
            for one in self.languages
        ]
        width = max([8, *(len(name) for name in self.ratios)])
        head = "".join(f"{moment:>6.1f}" for moment in PROGRESS)
        lines += ["", f"  nominal text ratio by progress\n  {'':{width}}{head}"]
        for name, ratios in self.ratios.items():
            row = "".join(f"{ratio:6.2f}" for ratio in ratios)
            lines.append(f"  {name:{width}}{row}   {self.labels[name]}")
        if self.warnings or self.notes:
            lines.append("")
        lines += [f"  warning: {text}" for text in self.warnings]
        lines += [f"  note: {text}" for text in self.notes]
        return "\n".join(lines)


def pair_tokens(split: SplitCard | None, sequence_format: str) -> float:
    """Estimate the tokens of a pair that is all speech, from the counts of its split if known."""
    units, words = _TYPICAL_UNITS, _TYPICAL_WORDS
    if split is not None:
        units = (split.source_units + split.target_units) / split.pairs
        words = (split.source_words + split.target_words) / split.pairs
    if sequence_format == "chain_of_thought":
        return units + words + 5  # <s>, three separators, </s>
    return units + 3  # <s>, a separator, </s>


def _short(count: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
