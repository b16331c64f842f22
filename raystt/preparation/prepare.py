"""Prepare a corpus: speech, units, alignment, shards, and the models fitted to them.

    card = prepare(config.corpus, resources=config.resources, progress=print)

Every file appears whole or not at all, and is made only if it is missing. So a killed preparation
goes on where it stopped and loses at most a part of some dozen pairs a worker; `card.json` comes
last, and a complete directory that has it is returned without further work. The same config gives
the same shards, byte for byte. On a cluster, `corpus.path` must be on storage that all nodes share,
or in an object store, which is prepared from one node.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from raystt import remote
from raystt.config import CorpusConfig, ResourcesConfig
from raystt.corpus.card import FILE_NAME, Card
from raystt.errors import PrepareError
from raystt.interleaving.rules import Interleaving, untranscribed_complaint
from raystt.preparation.files import WORK, claim, locked, same_config, same_tables

__all__ = ["PrepareError", "fit", "prepare"]

Progress = Callable[[str, int, int], None]
Message = Callable[[str], None]
Stage = Literal["encoder", "units", "vocoder"]


def to_stderr(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr)


def prepare(
    config: CorpusConfig,
    *,
    resources: ResourcesConfig,
    progress: Progress,
    interleaving: Interleaving | None = None,
    on_message: Message = to_stderr,
) -> Card:
    """Prepare the corpus of a config, or return it if that was done.

    Args:
        config: what to prepare, and where.
        resources: the Ray to start or join.
        progress: told (stage, 0, 0) of every stage that will come, then (stage, done, total) of
            each step. The stages are, as far as the config has them, text, speech (pairs), encoder
            (steps), units (utterances), k-means (iterations), shards (utterances), merge, then side
            by side vocoder (steps), base (steps) and asr.
        interleaving: of the runs to come: what it needs and the corpus lacks is told first.
        on_message: told single events: how well the fine-tuned encoder spells.

    Raises:
        BadInput: the directory holds another corpus, or one of tables that have changed since, or
            is being prepared by another process; the recordings are not what they should be, or
            lack the source text that is needed; a model cannot be loaded; the card is damaged.
    """
    corpus = remote.local(config.path)
    done = _finished(corpus, config)
    if done is not None:
        _refuse_untranscribed(done.transcribed, interleaving)
        return done
    _refuse_cluster(corpus, resources)
    with locked(corpus):
        claim(corpus, config.content())
        # Imported here: what brings torch and Ray takes seconds, and a prepared corpus needs none.
        from raystt.preparation.plan import Plan

        plan = Plan(corpus, config, resources, progress, on_message)
        _refuse_untranscribed(plan.source.transcribed, interleaving)
        plan.run()
        card = plan.card()
        card.save(corpus)
        shutil.rmtree(corpus / WORK, ignore_errors=True)
    return card


def fit(
    stage: Stage,
    config: CorpusConfig,
    *,
    resources: ResourcesConfig,
    progress: Progress,
    on_message: Message = to_stderr,
) -> None:
    """Prepare a corpus as far as one of its models, and fit that; see `prepare`.

    So each model can be fitted on the machines that suit it, and looked at before the next.

    Raises:
        BadInput: as `prepare`, and where the config does not ask for such a model.
    """
    corpus = remote.local(config.path)
    if stage == "encoder" and config.finetune is None:
        raise PrepareError(
            "corpus.finetune: there is no encoder to fit; add `finetune: {}` and name a speech "
            "encoder in corpus.units.encoder"
        )
    if stage == "units" and config.units.codebook is not None:
        raise PrepareError(
            f"corpus.units.codebook: {config.units.codebook} is used, there is nothing to fit; "
            "remove the key to fit one"
        )
    if stage == "vocoder" and config.vocoder.kind != "conv":
        raise PrepareError(
            f"corpus.vocoder.kind: {config.vocoder.kind} is used as it is; set `kind: conv` to fit "
            "one"
        )
    if _finished(corpus, config) is not None:
        return
    _refuse_cluster(corpus, resources)
    with locked(corpus):
        claim(corpus, config.content())
        from raystt.preparation.plan import Plan

        Plan(corpus, config, resources, progress, on_message).run(stage)


def _finished(corpus: Path, config: CorpusConfig) -> Card | None:
    """Return the card of a complete corpus of this config.

    Raises:
        PrepareError: it is of another config, or of tables that have changed since.
    """
    remote.fetch(corpus, FILE_NAME)
    if not (corpus / FILE_NAME).exists():
        return None
    card = Card.load(corpus)
    same_config(corpus, card.config, config.content())
    same_tables(corpus, card.tables)
    return None if card.missing(corpus) else card


def _refuse_cluster(corpus: Path, resources: ResourcesConfig) -> None:
    if (url := remote.url_of(corpus)) is not None and resources.cluster():
        raise PrepareError(
            f"{url}: a corpus in a store is made on one node, and a cluster is joined; run `raystt "
            "prepare` without it first, or give a path that all nodes mount"
        )


def _refuse_untranscribed(transcribed: bool, interleaving: Interleaving | None) -> None:
    if transcribed or interleaving is None:
        return
    complaint = untranscribed_complaint(interleaving)
    if complaint is not None:
        raise PrepareError(complaint)
