"""Generate target speech units greedily from pure source speech."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import torch

from raystt.corpus.card import Card
from raystt.corpus.rows import side
from raystt.evaluation.jobs import EvaluationJob
from raystt.interleaving.rules import Interleaving
from raystt.interleaving.sequences import prompt
from raystt.training.batches import layout_of
from raystt.training.model import ModelError, context, load_model


@dataclass(frozen=True, eq=False)
class Generated:
    """What a model wrote for one prompt, int64 token ids without framing and modality tokens.

    Attributes:
        spoken: `[tokens]` of the target speech; what is no target unit among them cannot be
            spoken, and is left in for the caller to count and drop.
        source_text: `[tokens]` of the transcript in chain of thought; empty if the model wrote
            none. None in the direct format.
        target_text: The same of the translation.
        ended: Whether the model came to an end by itself, and not at the most tokens.
    """

    spoken: np.ndarray
    source_text: np.ndarray | None
    target_text: np.ndarray | None
    ended: bool = True


@torch.inference_mode()
def generate(
    rows: pa.Table,
    job: EvaluationJob,
    card: Card,
    *,
    device: str,
    on_batch: Callable[[], None] = lambda: None,
) -> list[Generated]:
    """Generate greedily from pure speech and return the parts of each output, in the rows' order.

    Args:
        rows: Shard rows.
        job: The model and how to generate.
        card: The corpus card (token ids).
        device: Where the model runs.
        on_batch: Called after each batch.

    Returns:
        One `Generated` a row. Spoken is everything after the prompt in the direct format, what
        follows the third separator of the sequence in chain of thought (the prompt ends with
        the first).

    Raises:
        ModelError: A prompt leaves no room in the model's context.
    """
    layout = layout_of(card)
    prompts = prompt(side(rows, "source", card.tokenizer.unit_offset), layout, job.interleaving)
    starts, stops = prompts.offsets[:-1], prompts.offsets[1:]
    lengths = stops - starts
    model = load_model(job.model, attention="sdpa", dtype=_precision(device)).to(device).eval()
    room = context(model)
    if len(lengths) and lengths.max() >= room:
        raise ModelError(
            f"{job.model}: a prompt of {lengths.max()} tokens, its context is {room}; choose a "
            "model.base with a longer one, or shorter recordings (corpus.quality.max_seconds)"
        )
    # Rows that only fill up the table (`vocabulary.extend`).
    unused = list(range(card.vocabulary, model.get_input_embeddings().weight.shape[0]))
    outputs: dict[int, Generated] = {}
    order = np.argsort(-lengths, kind="stable")
    for first in range(0, len(order), job.config.batch):
        members = order[first : first + job.config.batch]
        width = int(lengths[members].max())
        ids = np.full((len(members), width), card.tokenizer.pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, index in enumerate(members):
            ids[row, width - lengths[index] :] = prompts.tokens[starts[index] : stops[index]]
            mask[row, width - lengths[index] :] = 1
        produced = model.generate(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            max_new_tokens=min(job.config.max_new_tokens, room - width),
            do_sample=False,
            num_beams=1,
            eos_token_id=layout.eos,
            pad_token_id=card.tokenizer.pad,
            suppress_tokens=unused or None,
        )
        for row, index in enumerate(members):
            outputs[int(index)] = parts(produced[row, width:].cpu().numpy(), card, job.interleaving)
        on_batch()
    return [outputs[index] for index in range(len(lengths))]


def _precision(device: str) -> torch.dtype | Literal["auto"]:
    """Return in what a model generates: as trained and saved, on a CPU always in fp32.

    Each token reads all weights, and a GPU reads those of bf16 in half of the time. Most CPUs have
    no products in bf16.
    """
    return torch.float32 if device == "cpu" else "auto"


def parts(tokens: np.ndarray, card: Card, interleaving: Interleaving) -> Generated:
    """Cut one generated row, int64 `[tokens]`, into its parts."""
    names = card.tokenizer
    ends = np.flatnonzero(tokens == names.eos)
    ended = len(ends) > 0
    if ended:
        tokens = tokens[: ends[0]]
    framing = [names.pad]
    if interleaving.modality_tokens:
        framing += [names.speech, names.text]
    tokens = tokens[~np.isin(tokens, framing)]
    if interleaving.format == "direct":
        return Generated(tokens, None, None, ended)
    # Each part but the first begins with its separator. What was never begun is empty: a model
    # that writes no separator never came to speak.
    borders = np.flatnonzero(tokens == names.separator)[:2]
    source, target, spoken = (*np.split(tokens, borders), tokens[:0], tokens[:0])[:3]
    return Generated(spoken[1:], source, target[1:], ended)
