"""Generate target speech units greedily from pure source speech."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from raystt.corpus.card import Card
from raystt.corpus.shards import side
from raystt.evaluation.jobs import EvaluationJob
from raystt.interleave import prompt
from raystt.thresholds import Interleaving
from raystt.training.batches import layout_of
from raystt.training.model import load_model


@torch.inference_mode()
def generate(rows: pa.Table, job: EvaluationJob, card: Card) -> list[np.ndarray]:
    """Generate greedily from pure speech and return the spoken part of each output.

    Args:
        rows: Shard rows.
        job: The model and how to generate.
        card: The corpus card (token ids).

    Returns:
        For each row the tokens of the target speech, int64, without `</s>`: everything after the
        prompt in the direct format, what follows the last separator in chain of thought.
    """
    layout = layout_of(card)
    prompts = prompt(side(rows, "source", card.tokenizer.unit_offset), layout, job.interleaving)
    starts, stops = prompts.offsets[:-1], prompts.offsets[1:]
    lengths = stops - starts
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(job.model, attention="sdpa").to(device).eval()
    outputs: list[np.ndarray] = [np.zeros(0, np.int64)] * len(lengths)
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
            max_new_tokens=job.config.max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=layout.eos,
            pad_token_id=card.tokenizer.pad,
        )
        for row, index in enumerate(members):
            outputs[index] = _spoken(produced[row, width:].cpu().numpy(), card, job.interleaving)
    return outputs


def _spoken(tokens: np.ndarray, card: Card, interleaving: Interleaving) -> np.ndarray:
    """Cut the target speech out of one generated row."""
    ends = np.flatnonzero(tokens == card.tokenizer.eos)
    if len(ends):
        tokens = tokens[: ends[0]]
    tokens = tokens[tokens != card.tokenizer.pad]
    if interleaving.format == "chain_of_thought":
        separators = np.flatnonzero(tokens == card.tokenizer.separator)
        if len(separators) < 2:
            return tokens[:0]  # it never came to speak
        tokens = tokens[separators[1] + 1 :]
    return tokens
