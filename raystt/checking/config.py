"""What can be wrong or odd between the keys of a config, given what is known of its corpus."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from raystt import remote
from raystt.checking.cost import Pairs
from raystt.cluster.capacity import pool_bundles, shortage, to_mend, unplaced
from raystt.cluster.plan import Nodes
from raystt.config import ResourcesConfig, RunBase, RunConfig, SearchConfig
from raystt.config.checks import schedule_corners
from raystt.interleaving.rules import untranscribed_complaint
from raystt.strict import Complaint, Location

_MOMENTS = 200  # at which schedules are compared
EPSILON = 1e-6  # shares of CPUs are added up in floating point


class Look:
    """One look at a config; collects what is found on the way.

    `fixed` are the runs by name that are known before anything runs; schedules know no language.
    """

    def __init__(self, config: RunConfig | SearchConfig) -> None:
        self.config = config
        self.search = config if isinstance(config, SearchConfig) else None
        self.base: RunBase
        self.languages: Sequence[str]
        if isinstance(config, SearchConfig):
            self.base, self.languages = config.base, config.languages
            self.fixed = {
                name: config.run_for(language, config.reference(name))
                for name in config.fixed_names
                for language in config.languages
                if name in config.fixed(language)
            }
        else:
            self.base, self.languages, self.fixed = config, (config.language,), {"schedule": config}
        self.complaints: list[Complaint] = []
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def complain(self, at: Location, reason: str, fix: str) -> None:
        """Complain about a key; one of the run stands in a search under `base`."""
        above = ("base",) if self.search and at[0] not in ("space", "ablations") else ()
        self.complaints.append(Complaint((*above, *at), reason, fix))

    def installed(self, package: str, purpose: str) -> None:
        """Warn of a package of the extra `demo` that is not there."""
        if find_spec(package) is None:
            self.warnings.append(
                f"{package} is not installed, it is needed to {purpose}: pip install 'raystt[demo]'"
            )

    def resources(self, asked: ResourcesConfig, nodes: Nodes | None) -> None:
        """Add up CPUs; Ray Data stalls silently when nothing is left for it.

        Args:
            asked: The resources as they were given.
            nodes: Those of the cluster, if they are known.
        """
        r = self.base.resources
        if r.data_cpus == 0:
            reason = "zero CPUs left for data: reading the shards would wait for ever"
            self.complain(("resources", "data_cpus"), reason, "give a share, such as 0.5")
        if r.cluster():
            places = {("storage",): self.base.storage, ("corpus", "path"): self.base.corpus.path}
            for at, path in places.items():
                if not (os.path.isabs(path) or remote.is_url(path)):
                    reason = f"{path!r} is relative, and a cluster is joined"
                    self.complain(at, reason, "give the absolute path that all its nodes mount")
            if nodes is None:
                self.notes.append("CPUs and GPUs are compared with the cluster once it is joined")
            elif left := unplaced(pool_bundles(r), nodes):
                at = ("resources", left[0].keys[0])
                self.complain(at, shortage(left, nodes), to_mend(left, asked))
            return
        have, held = r.local_cpus(), pool_bundles(r)
        total = sum(one.cpus for one in held)
        reserved = total - r.data_cpus
        sums = (
            f"{r.trainers} trainers x {r.workers_per_trainer} workers x {r.cpus_per_worker:g} CPUs "
            f"+ {r.evaluators} evaluators x {r.cpus_per_evaluator:g} CPUs take {reserved:g} of "
            f"{have} CPUs"
        )
        fix = "lower resources.trainers or resources.cpus_per_worker, or raise resources.cpus"
        if reserved >= have - EPSILON:
            reason = f"zero CPUs left for data: {sums}"
            self.complain(("resources", "trainers"), reason, fix)
        elif total > have + EPSILON:
            reason = f"{r.data_cpus:g} CPUs for data do not fit: {sums}"
            fix = f"give at most {have - reserved:g}, or {fix}"
            self.complain(("resources", "data_cpus"), reason, fix)
        if gpus := sum(one.gpus for one in held):
            self.notes.append(f"{gpus:g} GPUs are asked for; they are counted when Ray starts")

    def batches(self, pairs: Pairs) -> None:
        """Compare the batch with the training pairs and the workers."""
        key = "training.batch_utterances"
        at = tuple(key.split("."))
        batches = {run.training.batch_utterances for run in (self.base, *self.fixed.values())}
        if self.search and key in self.search.space.root:
            at = ("space", key)
            batches |= set(self.search.space.root[key].extremes())
        largest, smallest = max(batches), min(batches)
        for language in self.languages:
            count = pairs[language, "train"]
            if count is not None and largest > count:
                reason = f"{largest} utterances a step, but {language} has {count} training pairs"
                fix = f"give at most {count}, or raise corpus.languages.{language}.train"
                self.complain(at, reason, fix)
        workers = self.base.resources.workers_per_trainer
        if smallest < workers:
            reason = f"{smallest} utterances a step cannot be shared by {workers} workers"
            fix = f"give at least {workers}, or lower resources.workers_per_trainer"
            self.complain(at, reason, fix)

    def untranscribed(self) -> None:
        """Refuse runs that need source text, of a corpus without any."""
        told: set[Location] = set()
        runs: Mapping[str, RunBase] = self.fixed or {"": self.base}
        for name, run in runs.items():
            reason = untranscribed_complaint(run.interleaving)
            at: Location = ("interleaving",)
            if self.search and name in self.search.ablations:
                at = ("ablations", name, "set")
            if reason and at not in told:
                told.add(at)
                reason, _, fix = reason.rpartition("; ")
                self.complain(at, reason, fix)
        space = self.search.space.root if self.search else {}
        for key, spoken in (("interleaving.side", "target"), ("interleaving.format", "direct")):
            if key in space and any(value != spoken for value in space[key].extremes()):
                reason = "the corpus has no source text, which some of these values need"
                self.complain(("space", key), reason, f"keep `{spoken}` alone")

    def schedules(self) -> None:
        """Warn of runs that end with text in them, but for the reference meant to."""
        for name, run in self.fixed.items():
            meant = name
            if self.search and name in self.search.ablations:
                meant = self.search.ablations[name].of
            if meant != "constant" and run.schedule.ratio(1.0) > 0:
                self.warnings.append(_never_zero(name, run))
        for run in schedule_corners(self.search) if self.search else ():
            if run.schedule.ratio(1.0) > 0:
                self.warnings.append(_never_zero("the space", run))
                return

    def same_curves(self) -> None:
        """Warn of a space with two names for one curve: keys, or shapes, that change nothing."""
        if self.search is None:
            return
        space = self.search.space
        keys = [key for key in space.ordered() if key.startswith("schedule.")]
        conditions = {key for key in keys for entry in space.root.values() if key in entry.when}
        fixed = [key for key in keys if key in conditions or key.endswith(".shape")]
        middles = {key: entry.middle() for key, entry in space.root.items()}
        idle: set[tuple[str, str]] = set()
        twice: set[tuple[str, str]] = set()
        alike: dict[tuple[Any, ...], str] = {}
        for language in self.languages:
            for chosen in space.corners(fixed, language):
                name = str(chosen.get("schedule.shape", self.base.schedule.shape))
                values = {**middles, **chosen}
                whole = space.choose(language, values.__getitem__)
                middle = {key: value for key, value in whole.items() if key in keys}
                curves = {
                    key: [self._curve(language, {**middle, key: end})
                          for end in space.root[key].ends()]
                    for key in sorted(middle.keys() - chosen.keys())
                }  # fmt: skip
                idle |= {(key, name) for key, ends in curves.items()
                         if len(ends) > len(set(ends))}  # fmt: skip
                drawn = (language, *(tuple(ends) for ends in curves.values()))
                other = alike.setdefault(drawn, name)
                if curves and other != name:
                    twice.add((other, name))
        self.warnings += [
            f"{other} and {name} schedules are the same ones in this space; remove one of "
            "schedule.shape's values, or add the keys that tell them apart"
            for other, name in sorted(twice)
        ]
        self.warnings += [
            f"{key} changes nothing of a {name} schedule: trials would differ in name alone; add "
            "`when: {schedule.shape: ...}` with the shapes that it means"
            for key, name in sorted(idle)
        ]

    def points(self) -> None:
        """Warn of a space that has fewer points than trials are asked for."""
        if (search := self.search) is None:
            return
        for language in search.languages:
            trials, names = search.trials_of(language), search.fixed(language)
            there = list(itertools.islice(search.space.points(language), trials))
            if not there or len(there) == trials:
                continue
            fixed = [search.run_for(language, search.reference(name)) for name in names]
            new = sum(search.run_for(language, point) not in fixed for point in there)
            if new < trials - len(names):
                self.warnings.append(
                    f"trials: {trials - len(names)} proposals are asked for {language}, and its "
                    f"space has {new} points beside the fixed runs: some would be trained twice; "
                    f"give at most {new + len(names)} trials, or more values"
                )

    def _curve(self, language: str, overrides: Mapping[str, Any]) -> tuple[float, ...]:
        assert self.search is not None
        sides = self.search.run_for(language, overrides).schedule.sides()
        return tuple(x for side in sides for x in side.values(0, _MOMENTS, _MOMENTS).tolist())

    def trials(self, pairs: Pairs) -> None:
        """Warn of settings that make less of the trials than one may think."""
        evaluation = self.base.evaluation
        for language in self.languages:
            there = pairs[language, evaluation.split]
            if there is not None and (evaluation.sentences or 0) > there:
                self.warnings.append(
                    f"evaluation.sentences is {evaluation.sentences}, but {language} has {there} "
                    f"pairs in {evaluation.split}: all of them are used"
                )
        if evaluation.asr == "pocketsphinx":
            self.installed("pocketsphinx", "recognise the target speech")


def _never_zero(name: str, run: RunConfig) -> str:
    return (
        f"{name}: {run.schedule.label()} never reaches a ratio of 0, so training ends with "
        "text in the speech; the score is of pure speech"
    )
