"""Text pretraining: the small LLaMA that stands for a pretrained text LLM.

It is trained on the text of the task, which is the same sequence at ratio 1: no unit is ever seen,
so the unit embeddings keep their random start, as those added to a pretrained model would.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import torch

from raystt.config import BaseLmConfig, TrainingConfig
from raystt.corpus.card import Card
from raystt.corpus.reading import local_batches, split_shards
from raystt.interleaving.rules import Interleaving
from raystt.training.batches import assemble
from raystt.training.engine import Engine
from raystt.training.model import new_llama


def pretrain_base(
    corpus: Path,
    card: Card,
    config: BaseLmConfig,
    out: Path,
    *,
    seed: int,
    threads: int = 1,
    on_step: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train a LLaMA on the `text` split of all languages of a corpus and save it.

    Args:
        corpus: Directory of the corpus; only its text shards and tokenizer are used.
        card: The corpus card, or as much of it as is known before the base model exists.
        config: Size and training of the model.
        out: Directory that `save_pretrained` writes.
        seed: Seed of the initial weights and of the data order.
        threads: CPU threads.
        on_step: Told (step, steps, loss in nats a token).
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    tokens = card.tokenizer
    model = new_llama(
        vocabulary=card.vocabulary,
        hidden=config.hidden,
        layers=config.layers,
        heads=config.heads,
        pad=tokens.pad,
        bos=tokens.bos,
        eos=tokens.eos,
    )
    training = TrainingConfig(
        steps=config.steps, batch_utterances=config.batch, learning_rate=config.learning_rate
    )
    # Every step holds all languages in equal parts: one after the other, the last would win.
    share = -(-config.batch // len(card.languages))
    streams = [
        local_batches(
            split_shards(corpus, card, language, "text"),
            seed=seed,
            start_step=0,
            stop_step=config.steps,
            batch=share,
        )
        for language in card.languages
    ]
    engine = Engine(model, training, config.steps, "cpu")  # a task without a GPU
    try:
        for step, tables in enumerate(zip(*streams, strict=True)):
            batch = assemble(
                pa.concat_tables(tables),
                1.0,
                card=card,
                interleaving=Interleaving(rule="independent"),
                seed=seed,
                rank=engine.rank,
                world_size=engine.world_size,
                max_tokens=training.micro_batch_tokens,
            )
            loss = engine.step(batch)
            if on_step is not None:
                on_step(step + 1, config.steps, loss)
        engine.export(out)
    finally:
        engine.close()
