"""One look at a config, from its resources to its trials."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from raystt.checking.corpus import absent, files, grammar, load, models, prepared, unfit
from raystt.checking.outlook import fixed_runs, outlook, shown_runs, train_pairs
from raystt.checking.report import CheckReport
from raystt.config import SearchConfig, parse_any
from raystt.config.checks import schedule_corners
from raystt.config.run import RunBase, RunConfig
from raystt.config.yaml_source import ConfigError, Source, dotted, read
from raystt.corpus.card import Card
from raystt.interleaving.rules import untranscribed_complaint
from raystt.schedule import Schedule
from raystt.strict import Complaint

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
    return outlook(source.file, config, look.card, look.warnings, look.notes)


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
        batches = {run.training.batch_utterances for _, run in fixed_runs(self.config)}
        if self.search and key in self.search.space.root:
            at = ("space", key)
            batches |= set(self.search.space.root[key].extremes())
        largest, smallest = max(batches), min(batches)
        for language in self.languages:
            pairs = train_pairs(self.base, self.card, language)
            if pairs is not None and largest > pairs:
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
        complaints = [*unfit(self.base)]
        if config.reader == "embedded":
            complaints += grammar(config)
        if prepared(config):
            card, mismatches = load(config, prepare)
            complaints += mismatches
            if card:
                missing = [*files(card, directory, self.languages, prepare)]
                complaints += missing
                self.card = None if missing else card
        else:
            self.notes.append(f"the corpus in {directory} is not prepared yet; {prepare}")
            self.notes += absent(config)
            if config.reader == "embedded":
                self.installed("espeakng_loader", "prepare the embedded corpus")
        for c in complaints:
            yield self.complaint(c.location, c.reason, c.fix)
        yield from self.untranscribed()

    def untranscribed(self) -> Iterator[Complaint]:
        """Refuse runs that need source text of a corpus without any."""
        if self.card is None or self.card.transcribed:
            return
        told: set[tuple[str | int, ...]] = set()
        for name, run in fixed_runs(self.config):
            reason = untranscribed_complaint(run.interleaving)
            at: tuple[str | int, ...] = (*self.above, "interleaving")
            if self.search and name in self.search.ablations:
                at = ("ablations", name, "set")
            if reason and at not in told:
                told.add(at)
                reason, _, fix = reason.rpartition("; ")
                yield Complaint(at, reason, fix)
        if self.search is None:
            return
        for key, spoken in (("interleaving.side", "target"), ("interleaving.format", "direct")):
            entry = self.search.space.root.get(key)
            if entry is not None and any(value != spoken for value in entry.extremes()):
                reason = "the corpus has no source text, which some of these values need"
                yield Complaint(("space", key), reason, f"keep `{spoken}` alone")

    def installed(self, package: str, purpose: str) -> None:
        """Warn of a package of the extra `demo` that is not there."""
        if find_spec(package) is None:
            self.warnings.append(
                f"{package} is not installed, it is needed to {purpose}: pip install 'raystt[demo]'"
            )

    def model(self) -> Iterator[Complaint]:
        """See whether the models given as directories are there, and go together."""
        base, corpus = self.base.model.base, self.base.corpus
        if corpus.tokenizer is not None and base not in ("corpus", corpus.tokenizer):
            self.warnings.append(
                f"corpus.tokenizer {corpus.tokenizer!r} is not named as model.base {base!r} is: "
                "tokens of another model would mean nothing to it"
            )
        codebook = corpus.units.codebook
        if codebook is not None and not Path(codebook).is_file():
            fix = "correct the path, or remove the key to fit one"
            at = ("corpus", "units", "codebook")
            yield self.complaint(at, f"there is no file {codebook!r}", fix)
        names = []
        for location, name, missing in models(self.base):
            if missing:
                fix = "correct the path"
                if location == ("model", "base"):
                    fix += ", or use `corpus`, the text LM of the corpus"
                yield self.complaint(location, f"there is no directory {name!r}", fix)
            else:
                names.append(f"{dotted(location)} {name!r}")
        if names:
            are = "is no directory: taken as a name" if len(names) == 1 else (
                "are no directories: taken as names")  # fmt: skip
            self.notes.append(f"{', '.join(names)} {are} on the hub")

    def schedules(self) -> None:
        """Warn of runs that end with text in them, but for the reference meant to."""
        for name, run in shown_runs(self.config).items():
            schedule, meant = run.schedule, name
            if self.search and name in self.search.ablations:
                meant = self.search.ablations[name].of
            if schedule.ratio(1.0) > 0 and meant != "constant":
                self.warnings.append(_never_zero(name, schedule))
        if self.search is None:
            return
        for run in schedule_corners(self.search):
            if run.schedule.ratio(1.0) > 0:
                self.warnings.append(_never_zero("the space", run.schedule))
                return

    def trials(self) -> None:
        """Warn of settings that make less of the trials than one may think."""
        sizes = [self.base.corpus.languages[language] for language in self.languages]
        wanted = self.base.evaluation.sentences or 0
        for language, size in zip(self.languages, sizes, strict=True):
            there = getattr(size, self.base.evaluation.split)
            if there is not None and wanted > there:
                self.warnings.append(
                    f"evaluation.sentences is {wanted}, but {language} has {there} pairs in "
                    f"{self.base.evaluation.split}: all of them are used"
                )
        if self.base.evaluation.asr == "pocketsphinx":
            self.installed("pocketsphinx", "recognise the target speech")
        if self.search is None or not self.search.space.root:
            return
        sampler, trials = self.search.sampler, self.search.trials or 0
        if sampler.name == "tpe" and sampler.startup_trials >= trials:
            self.warnings.append(
                f"sampler.startup_trials is {sampler.startup_trials} of {trials} trials: all "
                "proposals are random; lower it or give more trials"
            )


def _never_zero(name: str, schedule: Schedule) -> str:
    return (
        f"{name}: {schedule.label()} never reaches a ratio of 0, so training ends with text in "
        "the speech; the score is of pure speech"
    )
