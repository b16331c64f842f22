"""Results of a search: one typed record from the trial that made it to disk, Tune and tables.

`results.jsonl` is append-only and survives a kill at any instant: a line is written by a single
`write` and synced, and a last line torn by a crash is dropped by the next reader and writer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from raystt.config.entry import Value
from raystt.errors import BadInput
from raystt.schedule import AnySchedule

if TYPE_CHECKING:
    import pandas

METRICS = ("chrf", "text_bleu", "source_text_bleu", "utmos")
"""What may be measured beside ASR-BLEU; None in a result where it was not."""


_Name = Annotated[str, Field(pattern=r"^\w+$")]  # of a directory that may be deleted


class ResultsError(BadInput):
    """A results file cannot be used; the text names the file, the line and the fix."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A trial to be run: its number in the study of its language, and what is its own.

    Attributes:
        language: Source language, such as "es".
        trial: Number of the trial in its language's study, from 0.
        reference: Name of the fixed run (reference or ablation) it is, or None for a proposal.
        seed: Seed of its training.
        overrides: Flat dotted keys by which it differs from the search's base.
        origin: Where its values come from: `sobol`, a sampler's name, or the trial of another
            language that it repeats, such as `es#4`; empty for a fixed run.
    """

    __pydantic_config__ = ConfigDict(strict=True, allow_inf_nan=False)  # of lines that are read

    language: str
    trial: Annotated[int, Field(ge=0)]
    reference: str | None
    seed: int
    overrides: Mapping[str, Value]
    origin: str = ""

    @property
    def label(self) -> str:
        """What a person calls it: `es#3`."""
        return f"{self.language}#{self.trial}"

    @property
    def folder(self) -> str:
        """Name of its folder under `trials/` and `tune/`: `es-003`."""
        return f"{self.language}-{self.trial:03d}"

    def identity(self) -> dict[str, Any]:
        """Return its fields, for a result or a failure of it."""
        return {**_identity(self), "overrides": self.overrides}

    def proposal(self) -> Proposal:
        """Return what was proposed, of a result or a failure."""
        return Proposal(**self.identity())

    def config(self) -> dict[str, Any]:
        """Return it as the flat config of a Tune trial."""
        return {**_identity(self), **self.overrides}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Proposal:
        """Read it from the config of a Tune trial: every dotted key is an override."""
        named = {name: config[name] for name in _IDENTITY}
        return cls(**named, overrides={k: v for k, v in config.items() if "." in k})


_IDENTITY = tuple(f.name for f in fields(Proposal) if f.name != "overrides")


def _identity(of: Proposal) -> dict[str, Any]:
    return {name: getattr(of, name) for name in _IDENTITY}


@dataclass(frozen=True, kw_only=True)
class Failure(Proposal):
    """A trial that could not be run, and why.

    Attributes:
        error: The worker's own error.
        time: When, Unix seconds.
    """

    error: str
    time: float


@dataclass(frozen=True, kw_only=True)
class Result(Proposal):
    """One finished evaluation of one trial.

    Attributes:
        split: Corpus split that was evaluated.
        status: "complete", or "diverged" (training was not finite; scored 0).
        schedule: The schedule that was trained, with all its keys.
        step: Optimiser steps trained.
        steps: Horizon of the trial in optimiser steps.
        asr_bleu: Corpus ASR-BLEU in [0, 100].
        asr_bleu_low: Lower bound of its 95 % bootstrap interval.
        asr_bleu_high: Upper bound.
        signature: sacrebleu's signature with recogniser, vocoder and normaliser.
        sentences: Number of sentences scored.
        chrf: chrF of the recognised speech.
        text_bleu: BLEU of the translation written in chain of thought.
        source_text_bleu: BLEU of the transcript written in chain of thought.
        utmos: Predicted naturalness, 1 to 5.
        signatures: Signatures of those of `METRICS` that were measured.
        loss: Loss of the last step, nats a predicted token; None where it was not finite.
        ratio: Nominal text ratio of the last step.
        achieved_words: Share of the words that were text in training, in [0, 1].
        tokens: Tokens trained on.
        train_seconds: Time the trainers worked on it.
        setup_seconds: Time they took to load models and states.
        evaluate_seconds: Time the evaluators worked.
        wait_seconds: Time in the queues of the pools.
        overhead_seconds: Time of the trial's slot that was none of these, from the end of the
            trial before.
        started: Start of the trial, Unix seconds.
        ended: End of the evaluation, Unix seconds.
        states: Names under `states/` of what it trained, the last one with the model.
    """

    split: str
    status: Literal["complete", "diverged"]
    schedule: AnySchedule
    step: int
    steps: int
    asr_bleu: float
    asr_bleu_low: float
    asr_bleu_high: float
    signature: str
    sentences: int
    chrf: float | None
    text_bleu: float | None
    source_text_bleu: float | None
    utmos: float | None
    signatures: Mapping[str, str]
    loss: float | None
    ratio: float
    achieved_words: float
    tokens: int
    train_seconds: float
    setup_seconds: float
    evaluate_seconds: float
    wait_seconds: float
    overhead_seconds: float
    started: float
    ended: float
    states: Annotated[tuple[_Name, ...], Field(min_length=1)]

    @property
    def ci(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of `asr_bleu`."""
        return self.asr_bleu_low, self.asr_bleu_high

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured beside ASR-BLEU, by name."""
        found = {name: getattr(self, name) for name in METRICS}
        return {name: value for name, value in found.items() if value is not None}

    def report(self) -> dict[str, Any]:
        """Return what a Tune trial reports of it: all that is not in the trial's config.

        `timesteps_total` is Tune's name of the step; loggers take it for the abscissa.
        """
        return {
            **{name: getattr(self, name) for name in REPORTED},
            "states": " ".join(self.states),
            "timesteps_total": self.step,
        }

    @classmethod
    def from_report(
        cls, proposal: Proposal, schedule: AnySchedule, report: Mapping[str, Any]
    ) -> Result:
        """Read it from the last report of a Tune trial (nested or flattened)."""
        prefix = "signatures/"
        signatures = report.get("signatures") or {
            key.removeprefix(prefix): value for key, value in report.items()
            if key.startswith(prefix)
        }  # fmt: skip
        values = {name: report[name] for name in REPORTED if name not in ("states", "signatures")}
        return cls(
            **proposal.identity(),
            schedule=schedule,
            signatures=signatures,
            states=tuple(report["states"].split()),
            **values,
        )


REPORTED = tuple(
    f.name for f in fields(Result) if f.name not in (*_IDENTITY, "overrides", "schedule")
)
"""Fields of a result that a Tune trial reports; None in the reports before the last."""

_RESULT, _FAILURE = TypeAdapter(Result), TypeAdapter(Failure)


def checked(result: Result) -> Result:
    """Return a result as it would be read from its line.

    Raises:
        ValueError: It would be refused.
    """
    return _RESULT.validate_json(_RESULT.dump_json(result, warnings=False))


def append(path: str | os.PathLike[str], record: Result | Failure) -> None:
    """Append one line and sync it; drops a line torn by an earlier crash first.

    There is one writer at a time: the driver of the search.

    Raises:
        ValueError: A value is not finite (a diverged trial is scored 0, not NaN).
        OSError: The file system refused.
    """
    kind = _RESULT if isinstance(record, Result) else _FAILURE
    values = kind.dump_python(record, mode="json")  # type: ignore[arg-type]
    line = json.dumps(values, allow_nan=False, separators=(",", ":")) + "\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            kept = _without_torn_line(os.pread(descriptor, size, 0))
            os.ftruncate(descriptor, len(kept))
            if kept and not kept.endswith(b"\n"):
                line = "\n" + line
        data = line.encode()
        if os.write(descriptor, data) != len(data):
            raise OSError(f"{path}: the line was not written whole; is the disk full?")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str | os.PathLike[str]) -> list[Result]:
    """Read all results in order; a torn last line is left out, a missing file is no result.

    Raises:
        ResultsError: A line other than a torn last one is no result.
    """
    return _read(Path(path), _RESULT)


def read_failures(path: str | os.PathLike[str]) -> list[Failure]:
    """Read `failures.jsonl` likewise.

    Raises:
        ResultsError: A line other than a torn last one is no failure.
    """
    return _read(Path(path), _FAILURE)


def salvage(path: Path, accept: Callable[[Proposal], bool]) -> tuple[list[str], list[int]]:
    """Return the lines of a file of results or failures that can be used, and numbers of others.

    A torn last line is neither: it is dropped by who writes next.

    Args:
        path: The file.
        accept: Says whether a result or a failure can be one of the search.
    """
    data = path.read_bytes() if path.exists() else b""
    kind: TypeAdapter[Any] = _FAILURE if path.name.startswith("failures") else _RESULT
    lines, bad = [], []
    for number, line in enumerate(_without_torn_line(data).splitlines(), start=1):
        try:
            text, record = line.decode(), kind.validate_json(line)
        except (ValidationError, UnicodeDecodeError):
            bad.append(number)
            continue
        if accept(record):
            lines.append(text)
        else:
            bad.append(number)
    return lines, bad


def _read(path: Path, kind: TypeAdapter[Any]) -> list[Any]:
    data = path.read_bytes() if path.exists() else b""
    found = []
    for number, line in enumerate(_without_torn_line(data).splitlines(), start=1):
        try:
            found.append(kind.validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the line"
            raise ResultsError(
                f"{path}:{number}: {where}: {first['msg']}; it was written by another version of "
                "raystt or damaged: delete the line to go on without it"
            ) from None
    return found


def _without_torn_line(data: bytes) -> bytes:
    """Drop an unterminated last line, unless all but its newline was written."""
    end = data.rfind(b"\n") + 1
    try:
        json.loads(data[end:])
    except (ValueError, RecursionError):
        return data[:end]
    return data


def latest(results: Iterable[Result]) -> list[Result]:
    """Keep the last line of each evaluation, in order of first appearance.

    A driver killed between its line and the study's record evaluates once more on resume; the
    repeated line replaces the first.
    """
    return list({(r.language, r.trial, r.split): r for r in results}.values())


def best(results: Iterable[Result]) -> Result | None:
    """Return the complete result of the highest ASR-BLEU, the earliest trial of equals."""
    complete = [r for r in results if r.status == "complete"]
    return max(complete, key=lambda r: (r.asr_bleu, -r.trial), default=None)


def dataframe(results: Iterable[Result], *, split: str) -> pandas.DataFrame:
    """Return one row a trial: its own keys, its scores on `split`, and on any other split.

    Columns are the fields of `Result`, the overrides by their dotted keys, and for another split
    `<split>_asr_bleu`, `<split>_asr_bleu_low` and `<split>_asr_bleu_high`; `to_paper` is the score
    minus that of the paper's schedule in the same language.
    """
    import pandas

    lines = latest(results)
    papers = {r.language: r.asr_bleu for r in lines if r.split == split and r.reference == "paper"}
    rows = []
    for one in (r for r in lines if r.split == split):
        row = {**_identity(one), **one.overrides, "split": one.split, "status": one.status}
        row |= {name: getattr(one, name) for name in REPORTED if name not in row}
        row["signatures"] = json.dumps(row["signatures"])
        row["states"] = " ".join(one.states)
        paper = papers.get(one.language)
        row["to_paper"] = None if paper is None else one.asr_bleu - paper
        for other in lines:
            if (other.language, other.trial) == (one.language, one.trial) and other.split != split:
                for name in ("asr_bleu", "asr_bleu_low", "asr_bleu_high"):
                    row[f"{other.split}_{name}"] = getattr(other, name)
        rows.append(row)
    return pandas.DataFrame(rows)
