"""The directory of a search: everything that it writes.

```
runs/<name>/
  config.yaml        the resolved config; a resumed search must have the same fingerprint
  run.json           format of the directory and version of raystt
  card.json          the card of the corpus
  journal.log        Optuna's journal, the truth of the search
  artifacts/         clips of fixed runs and of what led, which optuna-dashboard plays
  results.jsonl      one line a finished evaluation
  results.csv        one row a trial, written at the end
  failures.jsonl     one line a trial that could not be run
  confirmation.jsonl one line an evaluation of a trial that was trained anew on a fresh seed
  environment.json   versions and hardware that it ran on last
  ceilings.json      what the evaluation gives to reference speech
  recordings/<lang>-<split>/    the sentences that can be heard, as MP3, and their texts
  trials/<lang>-<number>/   train.jsonl, TensorBoard events of each step, hypotheses, clips
  tune/              the Tune experiment: result.json, progress.csv and events of each trial
  states/<key>/      model (and optimiser) at the end of each segment
  best/<lang>/       config.yaml, model (a link into states/), README.md
  summary.json, report/
```

All paths in it are relative to it: it may be moved or copied as a whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raystt import remote
from raystt.config import SearchConfig, load_search
from raystt.config.loading import CONFIG_FILE
from raystt.corpus.card import FILE_NAME, Card
from raystt.errors import BadInput
from raystt.evaluation.clips import clip, keep_recordings
from raystt.evaluation.jobs import Ceiling, clips_of
from raystt.files import write_atomic
from raystt.lines import append, read, read_failures
from raystt.results import Failure, Proposal, Result
from raystt.training.jobs import MODEL, STATES
from raystt.training.states import DONE, drop_engine

FORMAT = 3
TUNE = "tune"
"""Name of the Tune experiment, and of its folder."""
ARTIFACTS = "artifacts"
"""Folder of clips beside a journal."""
BEST = "best"
"""Folder of what the search found, by language."""

_PLAYED = 3  # clips of a trial in Optuna's dashboard


class NoRun(BadInput):
    """There is no search in the directory that this version can read; the text says why."""


class RunDirectory:
    """Names and contents of a search's directory.

    Args:
        path: The directory; `claim.claimed` holds it, to write to it.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = remote.local(path)
        self.config = self.path / CONFIG_FILE
        self.journal = self.path / "journal.log"
        self.results = self.path / "results.jsonl"
        self.table = self.path / "results.csv"
        self.failures = self.path / "failures.jsonl"
        self.confirmation = self.path / "confirmation.jsonl"
        self.ceilings = self.path / "ceilings.json"
        self.summary = self.path / "summary.json"
        self.tune = self.path / TUNE
        self.trials = self.path / "trials"
        self.states = self.path / STATES
        self.recordings = self.path / "recordings"
        self.artifacts = self.path / ARTIFACTS
        self.report = self.path / "report"
        self.page = self.report / "index.html"
        self.tables = self.report / "table.md"
        self.environment = self.path / "environment.json"
        self.version = self.path / "run.json"

    def load_config(self) -> SearchConfig:
        """Read the search that lies here.

        Raises:
            NoRun: There is none, or an older raystt wrote it.
        """
        remote.refresh(self.path)
        if not self.config.exists():
            raise NoRun(
                f"{self.path}: no search there (config.yaml is missing); give a directory that "
                "`raystt search` wrote, such as runs/quickstart"
            )
        found = self._format()
        if found != FORMAT:
            raise NoRun(
                f"{self.path}: was written by another version of raystt (format {found}, this one "
                f"reads {FORMAT}); read it with that version, or run the search again with "
                "--overwrite or under another `name`"
            )
        return load_search(self.config)

    def read(self) -> list[Result]:
        """Read all results so far."""
        return read(self.results)

    def read_failures(self) -> list[Failure]:
        """Read the trials that could not be run."""
        return read_failures(self.failures)

    def read_confirmation(self) -> list[Result]:
        """Read the evaluations on fresh seeds."""
        return read(self.confirmation)

    def append_confirmation(self, result: Result) -> None:
        """Write one evaluation on a fresh seed."""
        append(self.confirmation, result)

    def append(self, record: Result | Failure) -> None:
        """Write one finished evaluation, or one trial that could not be run."""
        append(self.results if isinstance(record, Result) else self.failures, record)

    def keep_card(self, corpus: Path) -> Card:
        """Copy the card of the corpus, which reports need, and return it."""
        card = Card.load(corpus)
        card.save(self.path)
        return card

    def keep_recordings(self, corpus: Path, search: SearchConfig) -> None:
        """Copy what reports let people hear of the corpus."""
        split = search.base.evaluation.split
        for language in search.languages:
            folder = self.recordings / f"{language}-{split}"
            keep_recordings(corpus, self.card(), language, split, folder)

    def card(self) -> Card:
        """Return the card of the corpus that was searched on.

        Raises:
            NoRun: It is not there: the corpus is being prepared, or that was broken off.
        """
        if not (self.path / FILE_NAME).exists():
            raise NoRun(
                f"{self.path}: the corpus of this search is not prepared yet, so it has no trials; "
                "wait, or `raystt search FILE --resume` goes on"
            )
        return Card.load(self.path)

    def clips(self, one: Proposal, split: str) -> list[Path]:
        """Return some of what can be heard of a trial, for Optuna's dashboard."""
        folder = clips_of(self.trials / one.folder, split)
        clips = (clip(folder, number) for number in range(_PLAYED))
        return [path for path in clips if path.exists()]

    def size(self) -> int:
        """Return how many bytes of results there are: it grows with every score."""
        files = (self.results, self.confirmation)
        return sum(path.stat().st_size for path in files if path.exists())

    def model(self, result: Result) -> Path:
        """Return the directory of a trial's model, which may have been pruned."""
        state = self.states / result.states[-1]
        remote.fetch(state, DONE)
        return state / MODEL

    def best(self, language: str) -> Path:
        """Return the directory of a language's best."""
        return self.path / BEST / language

    def write_environment(self, found: Mapping[str, Any]) -> None:
        """Write what the search runs on."""
        write_atomic(self.environment, json.dumps(found, indent=1) + "\n")

    def read_environment(self) -> dict[str, Any]:
        """Return what it ran on last; nothing before it was started."""
        found: dict[str, Any] = {}
        if self.environment.exists():
            found = json.loads(self.environment.read_text(encoding="utf-8"))
        return found

    def write_ceilings(self, ceilings: Mapping[tuple[str, str], Ceiling]) -> None:
        """Write what the evaluation gives to reference speech, by (language, split)."""
        found: dict[str, dict[str, Any]] = {}
        for (language, split), ceiling in ceilings.items():
            found.setdefault(language, {})[split] = asdict(ceiling)
        write_atomic(self.ceilings, json.dumps(found, indent=1) + "\n")

    def read_ceilings(self) -> dict[str, dict[str, Ceiling]]:
        """Return the ceilings of each language, by split; none before they are measured."""
        if not self.ceilings.exists():
            return {}
        kept = json.loads(self.ceilings.read_text(encoding="utf-8"))
        return {
            language: {split: Ceiling.of(one) for split, one in splits.items()}
            for language, splits in kept.items()
        }

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`."""
        text = json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False)
        write_atomic(self.summary, text + "\n")

    def finished_summary(self, search: SearchConfig) -> dict[str, Any] | None:
        """Return the summary of a search that has nothing left to do, else None."""
        remote.refresh(self.path)
        if not self.summary.exists():
            return None
        summary: dict[str, Any] = json.loads(self.summary.read_text(encoding="utf-8"))
        confirmed = {**search.confirm.model_dump(), "missing": 0}
        finished = summary["trials"] >= search.total_trials and summary.get("confirm") == confirmed
        return summary if finished else None

    def prune(self, kept: Iterable[Result], finished: Iterable[Result]) -> None:
        """Delete the states of finished trials, but for the models of those that are kept.

        States of unfinished trials stay: they are gone on from.
        """
        needed = {result.states[-1] for result in kept}
        for name in {name for result in finished for name in result.states} - needed:
            remote.delete(self.states / name, DONE)
            shutil.rmtree(self.states / name, ignore_errors=True)

    def drop_engines(self, result: Result) -> None:
        """Delete what only training on would need of a finished trial's states."""
        for name in result.states:
            drop_engine(self.states / name)

    def _format(self) -> int:
        try:
            return int(json.loads(self.version.read_text())["format"])
        except (OSError, ValueError, KeyError):
            return 1
