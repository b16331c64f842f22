"""The directory of a search: everything that it writes, and the lock that keeps it single.

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

import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raystt import __version__, remote
from raystt.config import SearchConfig, load_search, to_yaml
from raystt.config.loading import CONFIG_FILE
from raystt.config.run import changed_keys
from raystt.corpus.card import FILE_NAME, Card
from raystt.errors import BadInput
from raystt.evaluation.clips import clip, keep_recordings
from raystt.evaluation.jobs import clips_of
from raystt.files import remove_unfinished, write_atomic
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


class RunExists(BadInput):
    """The directory holds another search, an unfinished one, or is in use; the text says which."""


class NoRun(BadInput):
    """There is no search in the directory that this version can read; the text says why."""


class RunDirectory:
    """Names and contents of a search's directory.

    Args:
        path: The directory; see `claimed` to write to it.
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

    def write_ceilings(self, ceilings: Mapping[tuple[str, str], Any]) -> None:
        """Write what the evaluation gives to reference speech, by (language, split)."""
        found: dict[str, dict[str, Any]] = {}
        for (language, split), ceiling in ceilings.items():
            found.setdefault(language, {})[split] = ceiling
        write_atomic(self.ceilings, json.dumps(found, indent=1) + "\n")

    def read_ceilings(self) -> dict[str, Any]:
        """Return the ceilings of each language, by split; none before they are measured."""
        found: dict[str, Any] = {}
        if self.ceilings.exists():
            found = json.loads(self.ceilings.read_text(encoding="utf-8"))
        return found

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

    def claim(self, search: SearchConfig, *, resume: bool, overwrite: bool) -> None:
        """Make the directory this search's own."""
        if overwrite:
            self._clear()
        elif self.config.exists():
            before = self.load_config()
            begun = self._begun()  # else nothing can be lost
            # Asking again for what is finished is no mistake: it is shown again.
            if begun and not resume and self.finished_summary(search) is None:
                raise RunExists(
                    f"{self.path}: holds a search already; continue it with --resume, delete it "
                    "with --overwrite, or give this one another `name`"
                )
            if begun and (changed := _refused_changes(before, search)):
                raise RunExists(
                    f"{self.config}: this search was started with another config ({changed}); "
                    "resume it with the same one, or give this one another `name`"
                )
            if before.space != search.space:
                self._retire_journal()
        remove_unfinished(self.path)
        for folder in (self.trials, self.states):
            folder.mkdir(exist_ok=True)
        version = {"format": FORMAT, "raystt": __version__}
        write_atomic(self.version, json.dumps(version) + "\n")
        write_atomic(self.config, to_yaml(search))

    def _begun(self) -> bool:
        """Whether a trial was begun here, or still only the corpus prepared."""
        return self.journal.exists() or self.results.exists() or any(self.states.glob("*"))

    def _retire_journal(self) -> None:
        """Begin new studies, over another space: they are written again from the results."""
        names = (self.journal.with_name(f"journal.{number}.log") for number in itertools.count(1))
        if self.journal.exists():
            os.replace(self.journal, next(name for name in names if not name.exists()))

    def _clear(self) -> None:
        for others in (self.states, self.trials):  # what trainers put there
            remote.delete(others)
        for child in self.path.iterdir():
            if child.name.startswith("."):  # of who holds it
                continue
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                os.unlink(child)


@contextmanager
def claimed(search: SearchConfig, *, resume: bool, overwrite: bool) -> Iterator[RunDirectory]:
    """Lock the directory of a search, `<storage>/<name>`, for the time of the block.

    Args:
        search: The search.
        resume: Continue what is there.
        overwrite: Delete what is there first.

    Raises:
        RunExists: There is a run and neither is set, it was another search, or it is running.
        NoRun: An older raystt wrote what is there.
    """
    directory = RunDirectory(f"{search.base.storage}/{search.name}")
    running = RunExists(
        f"{directory.path}: a search is running in this directory; wait for it, or give this one "
        "another `name`"
    )
    with remote.held(directory.path, running):
        directory.claim(search, resume=resume, overwrite=overwrite)
        yield directory


def _refused_changes(before: SearchConfig, after: SearchConfig) -> str:
    """Name what keeps a search from going on under another config; "" if nothing does.

    More trials, languages, seeds to confirm on, and a wider space go on from what is there.
    """
    same = after.model_copy(update={"languages": before.languages, "space": before.space})
    found = [] if same.fingerprint() == before.fingerprint() else [changed_keys(before, same)]
    gone = [name for name in before.languages if name not in after.languages]
    if gone:
        found.append(f"languages: {', '.join(gone)} removed")
    for key, entry in before.space.root.items():
        other = after.space.root.get(key)
        if other is None:
            found.append(f"space.{key} removed")
        elif not entry.within(other):
            found.append(f"space.{key} narrower, or drawn in another way")
    return ", ".join(found)
