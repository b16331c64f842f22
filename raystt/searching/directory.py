"""The directory of a run: everything that a search writes, and the lock that keeps it single.

```
runs/<name>/
  config.yaml        the resolved config; a resumed search must have the same fingerprint
  journal.log        Optuna's journal, the truth of the search
  results.jsonl      one line a finished evaluation
  failures.jsonl     one line a trial that could not be run
  trials/<lang>-<number>/   train.jsonl, TensorBoard events, hypotheses
  ceilings.json      what the evaluation gives to reference speech
  states/<key>/      model (and optimiser) at the end of each segment
  summary.json, report/, best/<lang>.yaml
```
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from raystt.config import RunConfig, SearchConfig, load_search, to_yaml
from raystt.errors import BadInput
from raystt.files import write_atomic
from raystt.results import Result, append, read
from raystt.searching.study import Proposal

CEILINGS = "ceilings.json"


class RunExists(BadInput):
    """The directory holds another search, an unfinished one, or is in use; the text says which."""


class RunDirectory:
    """A search's directory, locked while it is open.

    Args:
        search: The search; the directory is `<storage>/<name>`.
        resume: Continue what is there.
        overwrite: Delete what is there first.

    Raises:
        RunExists: There is a run and neither is set, it was another search, or it is running.
    """

    def __init__(self, search: SearchConfig, *, resume: bool, overwrite: bool) -> None:
        self.search = search
        self.path = Path(search.base.storage).resolve() / search.name
        self.path.mkdir(parents=True, exist_ok=True)
        # The lock is the process's own: a killed driver leaves none behind.
        self._lock = open(self.path / ".lock", "w")  # noqa: SIM115
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunExists(
                f"{self.path}: a search is running in this directory; wait for it, or give this "
                "one another `name`"
            ) from None
        if overwrite:
            self._clear()
        elif self.config.exists():
            # Asking again for what is finished is no mistake: it is shown again.
            if not resume and self.finished_summary() is None:
                raise RunExists(
                    f"{self.path}: holds a search already; continue it with --resume, delete it "
                    "with --overwrite, or give this one another `name`"
                )
            self._refuse_change()
        for name in ("trials", "states"):
            (self.path / name).mkdir(exist_ok=True)
        write_atomic(self.config, to_yaml(search))

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.close()

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def results(self) -> Path:
        """One JSON line a finished evaluation."""
        return self.path / "results.jsonl"

    @property
    def journal(self) -> Path:
        """Optuna's journal."""
        return self.path / "journal.log"

    @property
    def summary(self) -> Path:
        """The summary, written at the end."""
        return self.path / "summary.json"

    def read(self) -> list[Result]:
        """Read all results so far."""
        return read(self.results)

    def append(self, record: dict[str, Any]) -> None:
        """Write one finished evaluation."""
        append(self.results, Result.from_dict(record))

    def write_failure(self, proposal: Proposal, error: str) -> None:
        """Write why a trial could not be run."""
        line = json.dumps({**asdict(proposal), "error": error, "time": time.time()})
        with open(self.path / "failures.jsonl", "a") as file:
            file.write(line + "\n")

    def write_best(self, language: str, run: RunConfig, comment: str) -> None:
        """Write the config to train the final model of a language with."""
        write_atomic(self.path / "best" / f"{language}.yaml", f"# {comment}\n{to_yaml(run)}")

    def write_ceilings(self, ceilings: Mapping[tuple[str, str], Any]) -> None:
        """Write what the evaluation gives to reference speech, by (language, split)."""
        found: dict[str, dict[str, Any]] = {}
        for (language, split), ceiling in ceilings.items():
            found.setdefault(language, {})[split] = ceiling
        write_atomic(self.path / CEILINGS, json.dumps(found, indent=1) + "\n")

    def finished_summary(self) -> dict[str, Any] | None:
        """Return the summary of a search that has nothing left to do, else None."""
        if not self.summary.exists():
            return None
        summary: dict[str, Any] = json.loads(self.summary.read_text())
        return summary if summary["trials"] >= self.search.total_trials else None

    def _refuse_change(self) -> None:
        before = load_search(self.config)
        if before.fingerprint() != self.search.fingerprint():
            changed = ", ".join(_changed(before, self.search)) or "the config"
            raise RunExists(
                f"{self.config}: this search was started with another config ({changed}); "
                "resume it with the same one, or give this one another `name`"
            )

    def _clear(self) -> None:
        for child in self.path.iterdir():
            if child.name == ".lock":
                continue
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                os.unlink(child)


def _changed(before: SearchConfig, after: SearchConfig) -> list[str]:
    """Name the keys in which two searches differ."""

    def flat(value: Any, prefix: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {prefix: value}
        items: dict[str, Any] = {}
        for key, item in value.items():
            items.update(flat(item, f"{prefix}.{key}" if prefix else str(key)))
        return items

    old, new = (flat(yaml.safe_load(to_yaml(search)), "") for search in (before, after))
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
