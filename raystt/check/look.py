"""One look at a config, from its resources to its trials."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from raystt.check.corpus import files, grammar, load, prepared
from raystt.check.report import PROGRESS, CheckReport, LanguageReport, pair_tokens
from raystt.config.run import RunBase, RunConfig
from raystt.config.validation import Complaint
from raystt.config.yaml_source import ConfigError, Source, read
from raystt.corpus.card import Card
from raystt.schedule import Schedule
from raystt.space import SearchConfig, parse_any
from raystt.space.checks import schedule_corners

EPSILON = 1e-6  # shares of CPUs are added up in floating point


def check(path: Path | str) -> CheckReport:
    """Check the config of a run or of a search, and all that it needs on this machine.

    Raises:
        ConfigError: with every problem that was found as `FILE:LINE: key.path: reason; fix`.
    """
    source = read(path)
    config = parse_any(source)
    look = _Look(source, config)
    complaints = [*look.resources(), *look.batches(), *look.corpus(), *look.model()]
    if complaints:
        problems = [source.problem(c.location, c.reason, c.fix) for c in complaints]
        raise ConfigError(sorted(problems, key=lambda p: p.line))
    look.schedules()
    look.trials()
    return look.report()


class _Look:
    """One look at a config; collects warnings and notes on the way."""

    def __init__(self, source: Source, config: RunConfig | SearchConfig) -> None:
        self.source = source
        self.config = config
        self.above: tuple[str, ...]
        self.search = config if isinstance(config, SearchConfig) else None
        self.base: RunBase
        self.languages: Sequence[str]
        if isinstance(config, SearchConfig):
            self.base, self.languages, self.above = config.base, config.languages, ("base",)
        else:
            self.base, self.languages, self.above = config, (config.language,), ()
        self.card: Card | None = None
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def complaint(self, at: tuple[str | int, ...], reason: str, fix: str) -> Complaint:
        """Complain about a key of the run, which in a search stands under `base`."""
        return Complaint((*self.above, *at), reason, fix)

    def resources(self) -> Iterator[Complaint]:
        """Add up CPUs; Ray Data stalls silently when nothing is left for it."""
        r = self.base.resources
        if r.data_cpus == 0:
            reason = "zero CPUs left for data: reading the shards would wait for ever"
            yield self.complaint(("resources", "data_cpus"), reason, "give a share, such as 0.5")
        if r.address is not None or os.environ.get("RAY_ADDRESS"):
            self.notes.append("CPUs and GPUs are compared with the cluster once it is joined")
            return
        have, reserved = r.local_cpus(), r.reserved_cpus
        sums = (
            f"{r.trainers} trainers x {r.workers_per_trainer} workers x {r.cpus_per_worker:g} CPUs "
            f"+ {r.evaluators} evaluators x {r.cpus_per_evaluator:g} CPUs take {reserved:g} of "
            f"{have} CPUs"
        )
        fix = "lower resources.trainers or resources.cpus_per_worker, or raise resources.cpus"
        if reserved >= have - EPSILON:
            yield self.complaint(("resources", "trainers"), f"zero CPUs left for data: {sums}", fix)
        elif reserved + r.data_cpus > have + EPSILON:
            reason = f"{r.data_cpus:g} CPUs for data do not fit: {sums}"
            at = ("resources", "data_cpus")
            yield self.complaint(at, reason, f"give at most {have - reserved:g}, or {fix}")
        gpus = r.trainers * r.workers_per_trainer * r.gpus_per_worker
        gpus += r.evaluators * r.gpus_per_evaluator
        if gpus:
            self.notes.append(f"{gpus:g} GPUs are asked for; they are counted when Ray starts")

    def batches(self) -> Iterator[Complaint]:
        """Compare the batch with the training pairs and the workers."""
        key = "training.batch_utterances"
        at: tuple[str, ...] = (*self.above, *key.split("."))
        largest = smallest = self.base.training.batch_utterances
        if self.search and key in self.search.space.root:
            extremes = self.search.space.root[key].extremes()
            at, largest, smallest = ("space", key), max(extremes), min(extremes)
        for language in self.languages:
            pairs = self.base.corpus.languages[language].train
            if largest > pairs:
                reason = f"{largest} utterances a step, but {language} has {pairs} training pairs"
                fix = f"give at most {pairs}, or raise corpus.languages.{language}.train"
                yield Complaint(at, reason, fix)
        workers = self.base.resources.workers_per_trainer
        if smallest < workers:
            reason = f"{smallest} utterances a step cannot be shared by {workers} workers"
            fix = f"give at least {workers}, or lower resources.workers_per_trainer"
            yield Complaint(at, reason, fix)

    def corpus(self) -> Iterator[Complaint]:
        """Look at the prepared corpus; one that is not prepared yet is fine."""
        config, directory = self.base.corpus, Path(self.base.corpus.path)
        prepare = f"run `raystt prepare {self.source.file}`"
        complaints = [*grammar(config)]
        if prepared(config):
            self.card, mismatches = load(config, prepare)
            complaints += mismatches
            if self.card:
                complaints += files(self.card, directory, self.languages, prepare)
        else:
            self.notes.append(f"the corpus in {directory} is not prepared yet; {prepare}")
            self.installed("espeakng_loader", "prepare the embedded corpus")
        for c in complaints:
            yield self.complaint(c.location, c.reason, c.fix)

    def installed(self, package: str, purpose: str) -> None:
        """Warn of a package of the extra `demo` that is not there."""
        if find_spec(package) is None:
            self.warnings.append(
                f"{package} is not installed, it is needed to {purpose}: pip install 'raystt[demo]'"
            )

    def model(self) -> Iterator[Complaint]:
        """See whether a base model given as a directory is there."""
        base = self.base.model.base
        if base == "corpus" or Path(base).is_dir():
            return
        if base.startswith((".", "/", "~")):
            fix = "correct the path, or use `corpus`, the text LM of the corpus"
            yield self.complaint(("model", "base"), f"there is no directory {base!r}", fix)
        else:
            self.notes.append(f"model.base {base!r} is no directory: taken as a name on the hub")

    def shown(self) -> dict[str, Schedule]:
        """Return the schedules that are known before anything runs."""
        if isinstance(self.config, RunConfig):
            return {"schedule": self.config.text_schedule()}
        language, reference = self.languages[0], self.config.reference
        return {
            name: self.config.run_for(language, reference(name)).text_schedule()
            for name in self.config.references
        }

    def schedules(self) -> None:
        """Warn of runs that end with text in them, but for the reference meant to."""
        for name, schedule in self.shown().items():
            if schedule.ratio(1.0) > 0 and name != "constant":
                self.warnings.append(_never_zero(name, schedule))
        if self.search is None:
            return
        for run in schedule_corners(self.search):
            schedule = run.text_schedule()
            if schedule.ratio(1.0) > 0:
                self.warnings.append(_never_zero("the space", schedule))
                return

    def trials(self) -> None:
        """Warn of settings that make less of the trials than one may think."""
        sizes = [self.base.corpus.languages[language] for language in self.languages]
        wanted = self.base.evaluation.sentences or 0
        for language, size in zip(self.languages, sizes, strict=True):
            there = getattr(size, self.base.evaluation.split)
            if wanted > there:
                self.warnings.append(
                    f"evaluation.sentences is {wanted}, but {language} has {there} pairs in "
                    f"{self.base.evaluation.split}: all of them are used"
                )
        self.installed("pocketsphinx", "recognise the target speech")
        if self.search is None:
            return
        sampler, trials = self.search.sampler, self.search.trials
        if sampler.name == "tpe" and sampler.startup_trials >= trials:
            self.warnings.append(
                f"sampler.startup_trials is {sampler.startup_trials} of {trials} trials: all "
                "proposals are random; lower it or give more trials"
            )

    def report(self) -> CheckReport:
        """Put together what is known."""
        training = self.base.training
        utterances = training.steps * training.batch_utterances
        languages = []
        for language in self.languages:
            pairs = self.base.corpus.languages[language].train
            split = self.card.languages[language]["train"] if self.card else None
            tokens = pair_tokens(split, self.base.interleaving.format)
            languages.append(
                LanguageReport(
                    language=language,
                    pairs=pairs,
                    trials=self.search.trials if self.search else 1,
                    epochs=utterances / pairs,
                    tokens=round(utterances * tokens),
                )
            )
        return CheckReport(
            file=self.source.file,
            kind="search" if self.search else "run",
            name=self.config.name,
            steps=training.steps,
            batch_utterances=training.batch_utterances,
            languages=tuple(languages),
            counted=self.card is not None,
            ratios={
                name: tuple(schedule.ratio(p) for p in PROGRESS)
                for name, schedule in self.shown().items()
            },
            labels={name: schedule.label() for name, schedule in self.shown().items()},
            warnings=tuple(self.warnings),
            notes=tuple(self.notes),
        )


def _never_zero(name: str, schedule: Schedule) -> str:
    return (
        f"{name}: {schedule.label()} never reaches a ratio of 0, so training ends with text in "
        "the speech; the score is of pure speech"
    )
