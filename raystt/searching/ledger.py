"""Results on their way from the trials to disk, and what models are kept for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from raystt.config import SearchConfig
from raystt.results import Failure, Proposal, Result, best, latest
from raystt.searching.directory import RunDirectory
from raystt.searching.searcher import DIED


class Ledger:
    """Results on their way from the trials to disk, and those that lie there.

    Args:
        search: The search.
        directory: Its directory.
        on_message: Told of each trial that could not be run.
    """

    def __init__(
        self, search: SearchConfig, directory: RunDirectory, on_message: Callable[[str], None]
    ) -> None:
        self._search, self._directory, self._on_message = search, directory, on_message
        self._results = latest(directory.read())

    def finished(self, split: str | None = None) -> list[Result]:
        """Return the results on a split, by default the one that trials are compared on."""
        split = split or self._search.base.evaluation.split
        return [result for result in list(self._results) if result.split == split]

    def add(self, result: Result) -> None:
        """Write a result."""
        self._directory.append(result)
        self._results.append(result)

    def take(
        self,
        proposal: Proposal,
        report: Mapping[str, Any] | None,
        running: Iterable[Proposal],
    ) -> bool:
        """Write what a trial reported last; return whether that is a score."""
        if report is None or report["status"] == "failed":
            error = DIED if report is None else str(report["error"])
            self._directory.append(Failure(**proposal.identity(), error=error, time=time.time()))
            self._on_message(f"{proposal.label} could not be run: {error.splitlines()[0]}")
            return False
        run = self._search.run_for(proposal.language, proposal.overrides)
        self.add(Result.from_report(proposal, run.schedule, report))
        if self._search.fidelity.segments == 1:  # else a running trial may go on from its state
            self._prune(running)
        return True

    def _prune(self, running: Iterable[Proposal]) -> None:
        """Delete the models that will not be needed, unless a running trial is to find them."""

        def key(of: Proposal) -> str:
            return self._search.run_for(of.language, of.overrides).fingerprint()

        shared = {key(proposal) for proposal in running}
        over = [result for result in self.finished() if key(result) not in shared]
        self._directory.prune(self.kept(fixed=True), over)

    def kept(self, *, fixed: bool) -> list[Result]:
        """Return the results whose models are kept; `fixed` adds the fixed runs' in any case."""
        finished = self.finished()
        if self._search.keep == "all":
            return finished
        kept = [best(r for r in finished if r.language == name) for name in self._search.languages]
        if fixed or self._search.keep == "fixed":
            kept += [result for result in finished if result.reference is not None]
        return [result for result in kept if result is not None]
