"""Prepare a corpus: sentences, speech, units, alignment, shards, and the models fitted to them.

    card = prepare(config.corpus, resources=config.resources, progress=print)

Every file appears whole or not at all, and is made only if it is missing. So a killed preparation
goes on where it stopped and loses at most a chunk of pairs a worker; `card.json` comes last, and a
complete directory that has it is returned without further work. The same config gives the same
shards, byte for byte. On a cluster, `corpus.path` must lie on storage that all nodes share.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from raystt.config import CorpusConfig, ResourcesConfig
from raystt.corpus.card import FILE_NAME, Card
from raystt.preparation.files import WORK, PrepareError, claim, locked, same_config

__all__ = ["PrepareError", "prepare"]


def prepare(
    config: CorpusConfig,
    *,
    resources: ResourcesConfig,
    progress: Callable[[str, int, int], None],
) -> Card:
    """Prepare the corpus of a config, or return it if that was done.

    Args:
        config: what to prepare, and where.
        resources: the Ray to start or join.
        progress: told (stage, done, total) of every step; the stages are text, speech (pairs),
            units, shards, then side by side vocoder (steps), base (steps), asr and ceiling.

    Raises:
        PrepareError: the directory holds another corpus or is being prepared by another process,
            or the reader cannot give what is asked.
        CardError: the card there is damaged.
    """
    corpus = Path(config.path).absolute()
    asked = config.model_dump(mode="json", exclude={"path"})
    if (corpus / FILE_NAME).exists():
        card = Card.load(corpus)
        same_config(corpus, card.config, asked)
        if not card.missing(corpus):
            return card
    with locked(corpus):
        claim(corpus, asked)
        # Imported here: what brings torch and Ray takes seconds, and a prepared corpus needs none.
        from raystt.preparation.plan import Plan

        card = Plan(corpus, config, resources, progress).run()
        card.save(corpus)
        shutil.rmtree(corpus / WORK, ignore_errors=True)
    return card
