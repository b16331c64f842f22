"""Results of a search on disk: one JSON line a finished evaluation, and their summary.

`results.jsonl` is append-only and survives a kill at any instant: a line is written by a single
`write` and synced, and a last line torn by a crash is dropped by the next reader and writer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from raystt.errors import BadInput
from raystt.files import write_atomic

STATUSES = ("complete", "diverged")


class ResultsError(BadInput):
    """A results file cannot be used; the text names the file, the line and the fix."""


@dataclass(frozen=True)
class Result:
    """One finished evaluation of one trial at a segment border.

    Attributes:
        language: Source language, such as "es".
        trial: Number of the trial in its language's study, from 0.
        reference: Name of the fixed run (reference or ablation) it is, or None for a proposal.
        split: Corpus split that was evaluated.
        segment: First and last + 1 optimiser step of the segment before the evaluation.
        steps: Horizon of the trial in optimiser steps; `segment[1] == steps` ends the trial.
        status: "complete", or "diverged" (training was not finite; scored 0).
        schedule: The schedule, as `Schedule.as_dict` gives it.
        overrides: Flat dotted keys by which the trial differs from the search's base.
        asr_bleu: Corpus ASR-BLEU in [0, 100].
        ci: Bounds of its 95 % bootstrap interval.
        signature: sacrebleu's signature with recogniser, vocoder and normaliser.
        sentences: Number of sentences scored.
        achieved_words: Share of the words that were text in training, in [0, 1].
        train_seconds: Time the trainers worked on the segment.
        train_tokens: Tokens trained on in the segment.
        evaluate_seconds: Time the evaluators worked.
        overhead_seconds: Time that was neither training, nor evaluation, nor waiting for a pool.
        wait_seconds: Time in the queues of the pools.
        started: Start of the segment, Unix seconds.
        ended: End of the evaluation, Unix seconds.
        extra: Further keys of the line, kept as they are.
    """

    language: str
    trial: int
    reference: str | None
    split: str
    segment: tuple[int, int]
    steps: int
    status: Literal["complete", "diverged"]
    schedule: Mapping[str, Any]
    overrides: Mapping[str, Any]
    asr_bleu: float
    ci: tuple[float, float]
    signature: str
    sentences: int
    achieved_words: float
    train_seconds: float
    train_tokens: int
    evaluate_seconds: float
    overhead_seconds: float
    wait_seconds: float
    started: float
    ended: float
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status: {self.status!r} is none of {', '.join(STATUSES)}")
        object.__setattr__(self, "segment", (int(self.segment[0]), int(self.segment[1])))
        object.__setattr__(self, "ci", (float(self.ci[0]), float(self.ci[1])))

    @property
    def final(self) -> bool:
        """Whether the trial was trained to its horizon (or ended by divergence)."""
        return self.segment[1] >= self.steps or self.status == "diverged"

    @property
    def score(self) -> float:
        """ASR-BLEU by which trials are compared: 0 where training diverged."""
        return self.asr_bleu if self.status == "complete" else 0.0

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Result:
        """Build a result from a line of `results.jsonl`.

        Raises:
            ValueError: A key is missing or a value is none a result can have.
        """
        known = [f.name for f in fields(cls) if f.name != "extra"]
        missing = [name for name in known if name not in line]
        if missing:
            raise ValueError(f"missing {', '.join(missing)}")
        extra = {key: value for key, value in line.items() if key not in known}
        return cls(**{name: line[name] for name in known}, extra=extra)

    def as_dict(self) -> dict[str, Any]:
        """Return the line as a JSON-able dict, `extra` merged in."""
        line = asdict(self)
        extra = line.pop("extra")
        return {**line, "segment": list(self.segment), "ci": list(self.ci), **extra}


def append(path: str | os.PathLike[str], result: Result) -> None:
    """Append one line and sync it; drops a line torn by an earlier crash first.

    There is one writer at a time: the driver of the search.

    Raises:
        ValueError: A value is not finite (a diverged trial is scored 0, not NaN).
        OSError: The file system refused.
    """
    line = json.dumps(result.as_dict(), allow_nan=False, separators=(",", ":")) + "\n"
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
    path = Path(path)
    if not path.exists():
        return []
    data = path.read_bytes()
    results = []
    for number, line in enumerate(_without_torn_line(data).splitlines(), start=1):
        try:
            results.append(Result.from_dict(json.loads(line)))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ResultsError(
                f"{path}:{number}: not a result: {error}; delete the line to go on without it"
            ) from error
    return results


def _without_torn_line(data: bytes) -> bytes:
    """Drop an unterminated last line, unless all but its newline was written."""
    end = data.rfind(b"\n") + 1
    try:
        json.loads(data[end:])
    except ValueError:
        return data[:end]
    return data


def latest(results: Iterable[Result]) -> list[Result]:
    """Keep the last line of each evaluation, in order of first appearance.

    A driver killed between its line and the study's record evaluates once more on resume; the
    repeated line replaces the first.
    """
    kept: dict[tuple[Any, ...], Result] = {}
    for result in results:
        kept[(result.language, result.trial, result.split, result.segment)] = result
    return list(kept.values())


def best(results: Iterable[Result]) -> Result | None:
    """Return the complete result of the highest ASR-BLEU, the earliest trial of equals."""
    complete = [r for r in results if r.status == "complete" and r.final]
    return max(complete, key=lambda r: (r.asr_bleu, -r.trial), default=None)


def summarise(
    results: Iterable[Result],
    *,
    name: str,
    split: str,
    references: Sequence[str] = (),
    report_split: str | None = None,
    pairs: Mapping[str, int] | None = None,
    ceilings: Mapping[str, Any] | None = None,
    wall_s: float | None = None,
) -> dict[str, Any]:
    """Summarise a search for `summary.json`.

    Args:
        results: Lines of `results.jsonl`; only trials that reached their horizon are ranked.
        name: Name of the search.
        split: The split trials are compared on (`evaluation.split`).
        references: Names of the fixed runs in the order to show; others follow as they were run.
        report_split: A split that chose nothing; its scores become the entries' "test".
        pairs: Training pairs a language, from the corpus card; also fixes the languages' order.
        ceilings: What the evaluation gives to reference speech, a language and split.
        wall_s: Seconds the search took; by default from the first start to the last end.

    Raises:
        ResultsError: Two results of a language have different signatures and do not compare.
    """
    lines = latest(results)
    pairs = pairs or {}
    order, last = {name: n for n, name in enumerate(references)}, len(references)
    languages = list(dict.fromkeys([*pairs, *(r.language for r in lines)]))
    searched = [r for r in lines if r.split == split]
    trials = {(r.language, r.trial) for r in searched if r.final}
    overhead = sum(r.overhead_seconds for r in searched if (r.language, r.trial) in trials)
    if wall_s is None:
        wall_s = max((r.ended for r in lines), default=0.0) - min(
            (r.started for r in lines), default=0.0
        )
    entries = {}
    signatures: dict[str, None] = {}
    for language in languages:
        mine = [r for r in searched if r.language == language and r.final]
        report = {
            r.trial: r
            for r in lines
            if r.language == language and r.split == report_split != split and r.final
        }
        signature = _one_signature(language, [*mine, *report.values()])
        if signature:
            signatures[signature] = None
        winner = best(mine)
        entries[language] = {
            "pairs": pairs.get(language),
            "trials": len({r.trial for r in mine}),
            "diverged": len({r.trial for r in mine if r.status == "diverged"}),
            "signature": signature,
            "references": {
                r.reference: _entry(r, report)
                for r in sorted(mine, key=lambda r: (order.get(r.reference or "", last), r.trial))
                if r.reference is not None
            },
            "best": _entry(winner, report) if winner else None,
            **({"ceilings": ceilings[language]} if ceilings and language in ceilings else {}),
        }
    return {
        "name": name,
        "wall_s": round(wall_s, 3),
        "trials": len(trials),
        "overhead_s_per_trial": round(overhead / len(trials), 4) if trials else 0.0,
        "signature": "; ".join(signatures),
        "split": split,
        "report_split": report_split,
        "languages": entries,
    }


def _one_signature(language: str, results: Sequence[Result]) -> str:
    """Return the signature all scores of a language share ("" where there is no score)."""
    signatures = sorted({r.signature for r in results if r.status == "complete"})
    if len(signatures) > 1:
        raise ResultsError(
            f"results of {language!r} were scored in different ways and do not compare: "
            f"{' and '.join(signatures)}; start the search under a new name"
        )
    return signatures[0] if signatures else ""


def _entry(result: Result, report: Mapping[int, Result]) -> dict[str, Any]:
    """Return one line of the summary; "test" is what the trial scores on the report split."""
    entry: dict[str, Any] = {
        "asr_bleu": result.score,
        "ci": list(result.ci) if result.status == "complete" else [0.0, 0.0],
        "schedule": dict(result.schedule),
        "trial": result.trial,
        "reference": result.reference,
        "status": result.status,
        "metrics": dict(result.extra.get("metrics", {})),
    }
    if result.trial in report:
        test = report[result.trial]
        entry["test"] = {
            "asr_bleu": test.score,
            "ci": list(test.ci),
            "sentences": test.sentences,
        }
    return entry


def write_summary(path: str | os.PathLike[str], summary: Mapping[str, Any]) -> None:
    """Write `summary.json` atomically."""
    write_atomic(path, json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
