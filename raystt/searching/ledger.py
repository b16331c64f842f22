"""Results on their way from the trials to disk, and what models are kept for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from raystt.config import SearchConfig
from raystt.ranking import best, latest
from raystt.results import Failure, Proposal, Result
from raystt.searching.directory import RunDirectory
from raystt.searching.verdict import to_confirm


class Ledger:
    """Results on their way from the trials to disk, and those that lie there.

    Args:
        search: The search.
        directory: Its directory.
        on_message: Told of each trial that could not be run.

    Attributes:
        running: Gives the trials that run now, whose states are not to be deleted.
    """

    running: Callable[[], Iterable[Proposal]] = staticmethod(tuple)

    def __init__(
        self, search: SearchConfig, directory: RunDirectory, on_message: Callable[[str], None]
    ) -> None:
        self._search, self._directory, self._on_message = search, directory, on_message
        self._results = latest(directory.read())
        # Before the search grew; what leads now is confirmed at its end.
        self._confirmed = {(r.language, r.trial) for r in directory.read_confirmation()}
        # Those that may have a model still: to look at all, at each score, takes time without end.
        self._stored = self.finished()

    def finished(self, split: str | None = None) -> list[Result]:
        """Return the results on a split, by default the one that trials are compared on."""
        split = split or self._search.base.evaluation.split
        return [result for result in list(self._results) if result.split == split]

    def add(self, result: Result) -> None:
        """Write a result."""
        self._directory.append(result)
        self._results.append(result)

    def scored(self, proposal: Proposal, report: Mapping[str, Any]) -> list[Path]:
        """Write what a trial reported last, and return some of its clips."""
        run = self._search.run_for(proposal.language, proposal.overrides)
        result = Result.from_report(proposal, run.schedule, report)
        self.add(result)
        self._stored.append(result)
        self._directory.drop_engines(result)
        # Of several segments, a running trial may go on from its state.
        if self._search.keep != "all" and self._search.fidelity.segments == 1:
            self._prune()
        return self._directory.clips(result, result.split)

    def failed(self, proposal: Proposal, error: str) -> None:
        """Write that a trial could not be run."""
        self._directory.append(Failure(**proposal.identity(), error=error, time=time.time()))
        self._on_message(f"{proposal.label} could not be run: {error.splitlines()[0]}")

    def interrupted(self, proposal: Proposal, error: str) -> None:
        """Tell of a trial that goes on later."""
        self._on_message(f"{proposal.label} was interrupted: {error.splitlines()[0]}")

    def _prune(self) -> None:
        """Delete the models that will not be needed, unless a running trial is to find them."""

        def key(of: Proposal) -> str:
            return self._search.run_for(of.language, of.overrides).fingerprint()

        # Those without a model lead no more, as nobody's score changes.
        shared, needed = {key(proposal) for proposal in self.running()}, self.needed(self._stored)
        over = [result for result in self._stored if key(result) not in shared]
        self._directory.prune(needed, over)
        gone = {r.states[-1] for r in over} - {r.states[-1] for r in needed}
        self._stored = [result for result in self._stored if result.states[-1] not in gone]

    def kept(self, chosen: Sequence[Result]) -> list[Result]:
        """Return the results whose models are kept by a search that has ended with `chosen`."""
        finished = self.finished()
        if self._search.keep == "all":
            return finished
        fixed = [result for result in finished if result.reference is not None]
        return [*chosen, *(fixed if self._search.keep == "fixed" else ())]

    def needed(self, results: Sequence[Result]) -> list[Result]:
        """Return those of `results` that a search that goes on may end with."""
        needed = [result for result in results if result.reference is not None]
        for language in self._search.languages:
            mine = [r for r in results if r.language == language]
            winner = best(mine, self._search.objective)
            confirmed = [r for r in mine if (language, r.trial) in self._confirmed]
            needed += [*to_confirm(self._search, mine), *confirmed, *([winner] if winner else [])]
        return needed
