"""Ray Tune's view of the studies: which trial comes next, and what became of it.

Tune's own snapshot is not used: the journal holds every trial, and a resumed search is a new Tune
run over what the journal still lacks.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from raystt.searching.directory import RunDirectory
from raystt.searching.study import LanguageStudy, Proposal


class StudySearcher(Searcher):  # type: ignore[misc]
    """Asks the language that is furthest behind; writes results before it tells a study.

    Args:
        studies: One study a language.
        directory: Where results are written.
    """

    def __init__(self, studies: dict[str, LanguageStudy], directory: RunDirectory) -> None:
        super().__init__()  # no metric: results go to the studies, not to Tune
        self._studies, self._directory = studies, directory
        self._asked: dict[str, int] = {name: len(s.finished()) for name, s in studies.items()}
        self._open: dict[str, tuple[Proposal, float]] = {}
        self.completed = 0

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Refuse a space of Tune's: the studies bring their own."""
        return not config

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of the next trial; FINISHED when all languages have theirs."""
        for language in sorted(self._asked, key=lambda name: self._asked[name]):
            proposal = self._studies[language].ask()
            if proposal is not None:
                self._asked[language] += 1
                self._open[trial_id] = (proposal, time.time())
                return {"proposal": asdict(proposal)}
        return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Write a trial's result, then tell its study."""
        proposal, asked = self._open.pop(trial_id)
        self.completed += 1
        study = self._studies[proposal.language]
        if error or result is None or "record" not in result:
            self._directory.write_failure(proposal, "its Tune actor died; see Ray's dashboard")
            study.fail(proposal.number, "its Tune actor died")
            return
        record = json.loads(result["record"])
        message = record.pop("error")
        if record["status"] == "failed":
            self._directory.write_failure(proposal, message)
            study.fail(proposal.number, message)
            return
        record["ended"] = time.time()
        begun = max(asked, record.pop("ready"))
        busy = record.pop("busy_seconds") + record["wait_seconds"]
        record["overhead_seconds"] = max(0.0, record["ended"] - begun - busy)
        self._directory.append(record)
        study.tell(proposal.number, record["asr_bleu"], record["status"])

    def running(self) -> dict[str, Proposal]:
        """Return the trials that were handed out and are not finished."""
        return {f"{p.language}#{p.number}": p for p, _ in list(self._open.values())}

    def __getstate__(self) -> dict[str, Any]:
        """Keep out of Tune's snapshots, from which nothing is ever restored."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal is written as the search goes."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a resumed search reads the journal."""
