"""What a search answers for a language: the schedule to train with, and what speaks for it.

The highest of many noisy scores flatters itself, so what leads and the references that it is held
against are trained anew on fresh seeds (`confirm`). The best of what leads has the highest mean
over them on the split that trials are compared on; what is told of it is of the split that chose
nothing. Differences are means over these seeds, with the interval of a bootstrap over seeds and
sentences, and p-values by Holm's method over all comparisons of a language. Where several were
confirmed, the luck of the best's seeds is in its mean and its interval still; p-values count it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from raystt.config import BASELINE, OBJECTIVES, SearchConfig
from raystt.config.changes import Change, changed
from raystt.ranking import best, latest, ranked
from raystt.results import Proposal, Result
from raystt.searching.directory import RunDirectory
from raystt.searching.fresh import Confirmation, Difference, Fresh

NAMES = {
    "none": "no interleaving",
    "paper": "the paper's staircase",
    "constant": "a constant ratio",
    "thirds": "LST's thirds",
}
"""What a sentence calls a reference."""


@dataclass(frozen=True)
class Answer:
    """What a search answers for a language.

    Attributes:
        verdict: In words.
        chosen: The result of the trial to train with: of what was confirmed, references too, the
            best that was shown to beat the baseline; the baseline if nothing was; the highest score
            where nothing was confirmed.
        best: The trial that is best on fresh seeds, references aside; None without confirmation.
        fresh: Scores on fresh seeds, by trial.
        differences: Of the best, to references by name.
        optimism: The highest score of what was confirmed, minus the mean of the same trial over
            fresh seeds on the same split.
    """

    verdict: str
    chosen: Result
    best: Result | None
    fresh: Mapping[int, Fresh]
    differences: Mapping[str, Difference]
    optimism: float | None


def to_confirm(search: SearchConfig, results: Iterable[Result]) -> list[Result]:
    """Return the trials of a language that are trained anew: leading ones and references.

    An ablation may lead as a proposal does. Nothing is trained anew where nothing was proposed.

    Args:
        search: The search.
        results: Results of the language, on the split that trials are compared on.
    """
    complete = ranked(results, search.objective)
    if all(r.reference is not None for r in complete):
        return []
    leading = [r for r in complete if r.reference not in search.references][: search.confirm.top]
    references = [r for r in complete if r.reference in search.references]
    held = {r.trial: r for r in references if r.reference == BASELINE}
    held |= {r.trial: r for r in references[:1]}
    return [*leading, *held.values()] if leading else []


def missing(
    search: SearchConfig, directory: RunDirectory, results: Iterable[Result]
) -> list[tuple[Proposal, list[str]]]:
    """Return what is to be trained anew, and on which splits it lacks a score.

    Args:
        search: The search.
        directory: Its directory.
        results: Results of its trials on the split that they are compared on.
    """
    config, results = search.base.evaluation, list(results)
    known = Confirmation(search, directory)
    splits = list(dict.fromkeys((config.split, config.report_split)))
    return [
        lacking
        for name in search.languages
        for trial in to_confirm(search, [r for r in results if r.language == name])
        for lacking in known.lacking(trial, splits)
    ]


def answers(search: SearchConfig, directory: RunDirectory) -> dict[str, Answer]:
    """Return what a search answers, by language; languages without a score are left out."""
    split = search.base.evaluation.split
    results = [r for r in latest(directory.read()) if r.split == split]
    known, found = Confirmation(search, directory), {}
    for language in search.languages:
        mine = [r for r in results if r.language == language]
        winner = best(mine, search.objective)
        if winner is not None:
            found[language] = _answer(search, known, mine, winner)
    return found


def _answer(
    search: SearchConfig, known: Confirmation, results: Sequence[Result], winner: Result
) -> Answer:
    config = search.base.evaluation
    # Not those alone that lead now: what led before a search grew has its fresh seeds still.
    tried = [
        r for r in ranked(results, search.objective)
        if all(known.results(r, split) for split in (config.split, config.report_split))
    ]  # fmt: skip
    fresh = {one.trial: known.mean(one) for one in tried}
    candidates = [r for r in tried if r.reference not in search.references]
    references = {str(r.reference): r for r in tried if r.reference in search.references}
    if not candidates or not references:
        verdict = "not confirmed on fresh seeds: the highest of noisy scores flatters itself"
        return Answer(verdict, winner, None, fresh, {}, None)
    baseline = BASELINE if BASELINE in references else next(iter(references))
    others = [r for name, r in references.items() if name != baseline]
    pairs = [(one, name) for one in candidates for name in references]
    pairs += [(one, baseline) for one in others]
    compared = known.compare([(one, references[name]) for one, name in pairs])
    found = {(one.trial, name): it for (one, name), it in zip(pairs, compared, strict=True)}

    def place(one: Result) -> tuple[float, int]:
        return fresh[one.trial].on_split, -one.trial

    leader, observed = max(candidates, key=place), candidates[0]
    better = [r for r in (leader, *others) if found[r.trial, baseline].better]
    differences = {name: found[leader.trial, name] for name in references}
    verdict = _words(search, baseline, differences, fresh[leader.trial].diverged)
    beside = _beside_the_schedule(search, leader, references[baseline])
    if beside:
        keys = ", ".join(f"{'.'.join(one.key)} ({one.asked}, not {one.there})" for one in beside)
        verdict += f"; beside the schedule it differs in {keys}"
    splits = [config.split, config.report_split]
    open_ = sum(len(known.lacking(one, splits)) for one in to_confirm(search, results))
    return Answer(
        verdict=verdict + f"; trainings on fresh seeds still to come: {open_}" * bool(open_),
        chosen=max(better, key=place) if better else references[baseline],
        best=leader,
        fresh=fresh,
        differences=differences,
        optimism=observed.value(search.objective) - fresh[observed.trial].on_split,
    )


def _beside_the_schedule(search: SearchConfig, one: Result, other: Result) -> list[Change]:
    """Return what else a trial has of its own: its difference is not the schedule's alone."""
    held, asked = (
        search.run_for(it.language, it.overrides).model_dump(
            mode="json", by_alias=True, include={"interleaving", "training"}
        )
        for it in (other, one)
    )
    return changed(held, asked)


def _words(
    search: SearchConfig, baseline: str, differences: Mapping[str, Difference], diverged: int
) -> str:
    """Say how the best stands to the baseline, and to other references if it is behind them."""

    def called(name: str) -> str:
        own = name in search.reference_schedules
        return f"the reference {name}" if own else NAMES.get(name, name)

    unit = "" if search.objective == "asr_bleu" else f" {OBJECTIVES[search.objective]}"
    against, name = differences[baseline], called(baseline)
    points, (low, high) = against.score, against.ci
    if against.better:
        said = f"better than {name} by {points:.1f} [{low:.1f}, {high:.1f}]{unit}"
    elif against.worse:
        said = f"worse than {name} by {-points:.1f} [{-high:.1f}, {-low:.1f}]{unit}"
    else:
        said = f"not shown to be better than {name}; {points:.1f} [{low:.1f}, {high:.1f}]{unit}"
        if low > 0 or high < 0:  # the interval is of this comparison alone
            said += f", p = {against.p:.2f} among all comparisons"
    for other, one in differences.items():
        if other != baseline and one.worse:
            low, high = one.ci
            by = f"{-one.score:.1f} [{-high:.1f}, {-low:.1f}]{unit}"
            said += f"; worse than {called(other)} by {by}"
    if diverged:
        said += f"; it diverged on {diverged} of {search.confirm.seeds} fresh seeds"
    return said
