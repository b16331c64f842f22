"""One look at a config and at this machine, and what it all amounts to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from raystt.checking import corpus, lengths
from raystt.checking.config import Look
from raystt.checking.cost import Pairs, estimate
from raystt.checking.report import PROGRESS, LanguageReport, Report, ScheduleReport, si
from raystt.cluster.plan import Nodes, describe, local_gpus, planned
from raystt.config import ConfigError, ResourcesConfig, RunConfig, SearchConfig, parse_any
from raystt.config.checks import complaints
from raystt.config.corpus import SPLITS
from raystt.config.loading import Infra, read_config
from raystt.config.yaml_source import Source, dotted
from raystt.corpus.card import Card

_PAPER_HOURS = {"fr": 180, "de": 119, "es": 97, "ca": 81, "it": 28, "ru": 16, "pt": 7}  # of CVSS-C


def check(
    config: Path | str | RunConfig | SearchConfig,
    infra: Infra = None,
    nodes: Nodes | None = None,
) -> Report:
    """Check a run or a search, and all that it needs on this machine, without starting anything.

    Args:
        config: What is checked.
        infra: The file that says where it runs (`load_run`), if it is a file itself.
        nodes: What the nodes of the cluster have that it joins, if somebody has looked.

    Returns:
        What it amounts to; what would keep it from running here is in `problems`.

    Raises:
        ConfigError: it is no config, with every mistake in it.
    """
    source = Source("", {})
    if isinstance(config, SearchConfig):  # made in Python: loading one checks this
        if found := complaints(config):
            raise ConfigError([source.problem(c.location, c.reason, c.fix) for c in found])
    elif not isinstance(config, RunConfig):
        source = read_config(config, infra)
        config = parse_any(source)
    asked = (config.base if isinstance(config, SearchConfig) else config).resources
    config, plan = _sized(config, asked, nodes)
    look = Look(config)
    look.notes += plan
    card, pairs = _corpus(look, f"run `{f'raystt prepare {source.file}'.strip()}`")
    look.resources(asked, nodes)
    look.batches(pairs)
    _models(look)
    look.schedules()
    look.same_curves()
    look.points()
    look.trials(pairs)
    return _report(look, source, card, pairs)


def _sized(
    config: RunConfig | SearchConfig, asked: ResourcesConfig, nodes: Nodes | None
) -> tuple[RunConfig | SearchConfig, list[str]]:
    """Return the config with all sizes of its processes, and what is to be said of them."""
    if nodes is None and not asked.auto:
        return config, []
    if nodes is None and asked.cluster():
        return config, ["resources: auto: `raystt check --cluster` says what they become there"]
    here = nodes or [{"CPU": float(asked.local_cpus()), "GPU": float(local_gpus())}]
    found = planned(asked, here)
    changed = {"resources": found}
    if isinstance(config, SearchConfig):
        config = config.model_copy(update={"base": config.base.model_copy(update=changed)})
    else:
        config = config.model_copy(update=changed)
    return config, describe(found, here)


def check_run(
    config: Path | str | RunConfig | SearchConfig,
    infra: Infra = None,
    *,
    local: bool = False,
) -> Report:
    """Check as `check` does, before something is run; `local` runs need none of the resources.

    Raises:
        ConfigError: with every problem that was found as `FILE:LINE: key.path: reason; fix`.
    """
    report = check(config, infra)
    problems = [one for one in report.problems if not (local and one.key.startswith("resources"))]
    if problems:
        raise ConfigError(problems)
    return report


def check_prepared(
    before: Report,
    config: Path | str | RunConfig | SearchConfig,
    infra: Infra,
    on_message: Callable[[str], None],
) -> None:
    """Check again what was checked `before` its corpus was prepared; tell warnings that are new.

    Raises:
        ConfigError: as `check_run`, of what only the prepared corpus shows.
    """
    if before.counted:
        return
    for warning in check_run(config, infra).warnings:
        if warning not in before.warnings:
            on_message(f"warning: {warning}")


def _corpus(look: Look, prepare: str) -> tuple[Card | None, dict[tuple[str, str], int | None]]:
    """Look at the prepared corpus, or else at what it is made of; return its card and pairs."""
    base, card, transcribed = look.base, None, True
    pairs: dict[tuple[str, str], int | None] = {
        (name, split): getattr(base.corpus.languages[name], split)
        for name in look.languages
        for split in SPLITS
    }
    found = [*corpus.unfit(base), *corpus.files_here(base)]
    if corpus.prepared(base.corpus):
        card, wrong = corpus.load(base.corpus, prepare)
        found += wrong
        if card:
            transcribed = card.transcribed
            pairs = {place: card.split(*place).pairs for place in pairs}
    else:
        look.notes.append(f"the corpus in {base.corpus.path} is not prepared yet; {prepare}")
        if base.corpus.reader == "embedded":
            look.installed("espeakng_loader", "prepare the embedded corpus")
        else:
            if base.corpus.units.encoder == "mfcc":
                look.warnings.append(
                    "corpus.units.encoder: units of mfcc are too long for recordings, words are "
                    "lost in them; take mfcc_20ms, or a speech encoder"
                )
            counts, transcribed, wrong = corpus.sources(base.corpus)
            found += wrong
            pairs |= {place: count for place, count in counts.items() if place in pairs}
    for c in found:
        look.complain(c.location, c.reason, c.fix)
    if not transcribed:
        look.untranscribed()
    return card, pairs


def _models(look: Look) -> None:
    """See whether the pretrained models are there, or can be on the hub, and go together."""
    base, tokenizer = look.base.model.base, look.base.corpus.tokenizer
    if tokenizer is not None and base not in ("corpus", tokenizer):
        look.warnings.append(
            f"corpus.tokenizer {tokenizer!r} is not named as model.base {base!r} is: tokens of "
            "another model would mean nothing to it"
        )
    names = []
    for location, name, wrong, doubt in corpus.models(look.base):
        if wrong is not None:
            own = ", or use `corpus`, the text LM of the corpus"
            fix = f"correct the name{own if location == ('model', 'base') else ''}"
            look.complain(location, wrong, fix)
        elif not Path(name).is_dir():
            names.append(f"{dotted(location)} {name!r}")
            look.warnings += [f"{dotted(location)}: {doubt}"] if doubt else []
    if names:
        look.notes.append(f"taken as names on the hub, being no directories: {', '.join(names)}")


def _report(look: Look, source: Source, card: Card | None, pairs: Pairs) -> Report:
    """Say what a config amounts to; warn of what does not fit into a device or an output."""
    base, search = look.base, look.search
    sizes = {
        name: lengths.of(base.corpus, card.split(name, "train") if card else None)
        for name in look.languages
    }
    known = {**pairs, **_guessed(look, pairs)}
    words = lengths.word_counts(base.corpus, card, look.languages)
    # Of sizes that are to be found, nothing is known yet.
    cost = None if base.resources.auto else estimate(look.config, card, sizes, words, known)
    if cost is None:
        look.notes.append(
            f"no estimate of the cost: the sizes of model.base {base.model.base!r} are not known "
            "here; give a local directory"
        )
    else:
        for process, need, limit, fix in cost.excess():
            look.warnings.append(
                f"a process of the {process}s is estimated to hold {si(need, 'B')}, more than its "
                f"{si(limit, 'B')} of a GPU ({cost.device}): {fix}"
            )
    most = base.evaluation.max_new_tokens
    usual = {name: size.generated(base.interleaving) for name, size in sizes.items()}
    for name in [name for name in usual if usual[name] > most][:1]:
        look.warnings.append(
            f"evaluation.max_new_tokens is {most}, but an output of {name} is {usual[name]:.0f} "
            "tokens on average: speech would be cut off"
        )
    schedules = {}
    for name, run in look.fixed.items():
        schedule = run.schedule
        nominal = tuple(schedule.ratio(moment) for moment in PROGRESS)
        reached = lengths.achieved(run.interleaving, words, nominal)
        schedules[name] = ScheduleReport(schedule.label(), nominal, reached)
    utterances = base.training.steps * base.training.batch_utterances
    problems = [source.problem(c.location, c.reason, c.fix) for c in look.complaints]
    return Report(
        file=source.file,
        kind="search" if search else "run",
        name=look.config.name,
        steps=base.training.steps,
        batch_utterances=base.training.batch_utterances,
        languages=tuple(
            LanguageReport(
                language=name,
                pairs=pairs[name, "train"],
                trials=search.trials_of(name) if search else 1,
                fresh=search.confirmations_of(name) if search else 0,
                epochs=utterances / count if (count := known[name, "train"]) else None,
                tokens=round(utterances * size.tokens(base.interleaving, 0.0)),
            )
            for name, size in sizes.items()
        ),
        counted=card is not None,
        lengths=lengths.basis(base.corpus, card is not None),
        schedules=schedules,
        cost=cost,
        problems=tuple(sorted(problems, key=lambda problem: problem.line)),
        warnings=tuple(look.warnings),
        notes=tuple(look.notes),
    )


def _guessed(look: Look, pairs: Pairs) -> dict[tuple[str, str], int | None]:
    """Guess pairs of CVSS-C that nobody has counted from the hours that the paper states."""
    seconds, _ = lengths.SECONDS[False]
    found = {
        name: round(3600 * hours / seconds)
        for name, hours in _PAPER_HOURS.items()
        if look.base.corpus.reader == "cvss" and pairs.get((name, "train"), 0) is None
    }
    if found:
        told = ", ".join(f"{name} {count}" for name, count in found.items())
        look.notes.append(f"pairs are guessed from the hours in the paper: {told}")
    return {(name, "train"): count for name, count in found.items()}
