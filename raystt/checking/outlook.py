"""What a sound config amounts to: its fixed runs, their ratios, lengths and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from raystt.checking.cost import estimate
from raystt.checking.lengths import (
    Lengths,
    achieved,
    guessed_pairs,
    lengths,
    lengths_basis,
    word_counts,
)
from raystt.checking.report import PROGRESS, CheckReport, LanguageReport
from raystt.config import SearchConfig
from raystt.config.run import RunBase, RunConfig
from raystt.corpus.card import Card


def fixed_runs(config: RunConfig | SearchConfig) -> list[tuple[str, RunConfig]]:
    """List by name the runs that are known before anything runs; the base if there are none."""
    if isinstance(config, RunConfig):
        return [("schedule", config)]
    runs = [
        (name, config.run_for(language, config.reference(name)))
        for name in config.fixed_names
        for language in config.languages
        if name in config.fixed(language)
    ]
    return runs or [("base", config.run_for(config.languages[0], {}))]


def shown_runs(config: RunConfig | SearchConfig) -> dict[str, RunConfig]:
    """Return the runs whose schedules are shown, one a name; schedules know no language."""
    if isinstance(config, SearchConfig) and not config.fixed_names:
        return {}
    return dict(fixed_runs(config))


def train_pairs(base: RunBase, card: Card | None, language: str) -> int | None:
    """Return the training pairs of a language, None where nobody has counted them yet."""
    if card is not None:
        return card.split(language, "train").pairs
    return base.corpus.languages[language].train


def outlook(
    file: str,
    config: RunConfig | SearchConfig,
    card: Card | None,
    warnings: Sequence[str],
    notes: Sequence[str],
) -> CheckReport:
    """Report on a config in which nothing is wrong.

    Args:
        file: Its path as it was given.
        config: The run or search.
        card: The prepared corpus, None if it is not.
        warnings: What was found odd so far.
        notes: What could not be checked.
    """
    search = config if isinstance(config, SearchConfig) else None
    base: RunBase = config.base if isinstance(config, SearchConfig) else config
    names = config.languages if isinstance(config, SearchConfig) else (config.language,)
    sizes = {
        name: lengths(base.corpus, card.split(name, "train") if card else None) for name in names
    }
    pairs = {name: train_pairs(base, card, name) for name in names}
    guessed = {name: guessed_pairs(base.corpus, name) for name in names if pairs[name] is None}
    utterances = base.training.steps * base.training.batch_utterances
    languages = []
    for name in names:
        count = pairs[name] or guessed[name]
        languages.append(
            LanguageReport(
                language=name,
                pairs=pairs[name],
                trials=search.trials_of(name) if search else 1,
                epochs=None if count is None else utterances / count,
                tokens=round(utterances * sizes[name].tokens(base.interleaving, 0.0)),
            )
        )
    words = word_counts(base.corpus, card, names)
    cost = estimate(config, card, sizes, words, {**pairs, **guessed})
    more = [*(cost.warnings() if cost else ()), *_cut_off(base, sizes)]
    told = [f"{name} {count}" for name, count in guessed.items() if count is not None]
    further = [f"pairs are guessed from the hours in the paper: {', '.join(told)}"] if told else []
    if cost is None:
        further.append(
            f"no estimate of the cost: the sizes of model.base {base.model.base!r} are not known "
            "here; give a local directory"
        )
    runs = shown_runs(config)
    ratios = {
        name: tuple(run.schedule.ratio(moment) for moment in PROGRESS) for name, run in runs.items()
    }
    return CheckReport(
        file=file,
        kind="search" if search else "run",
        name=config.name,
        steps=base.training.steps,
        batch_utterances=base.training.batch_utterances,
        languages=tuple(languages),
        counted=card is not None,
        lengths=lengths_basis(base.corpus, card is not None),
        ratios=ratios,
        achieved={
            name: achieved(run.interleaving, words, ratios[name]) for name, run in runs.items()
        },
        labels={name: run.schedule.label() for name, run in runs.items()},
        cost=cost,
        warnings=(*warnings, *more),
        notes=(*notes, *further),
    )


def _cut_off(base: RunBase, sizes: Mapping[str, Lengths]) -> Iterator[str]:
    """Warn of a limit that cuts off the usual output."""
    most = base.evaluation.max_new_tokens
    for language, size in sizes.items():
        usual = size.generated(base.interleaving)
        if usual > most:
            yield (
                f"evaluation.max_new_tokens is {most}, but an output of {language} is "
                f"{usual:.0f} tokens on average: speech would be cut off"
            )
            return
