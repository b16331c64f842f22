"""Model FLOPs utilisation (MFU): what training computes, as a share of what its GPU could.

Counted are the products of the model itself, forward and backward, as in PaLM (arXiv 2204.02311,
appendix B): what is computed again to save memory, the optimiser, and padding earn nothing.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from transformers.pytorch_utils import Conv1D

from raystt.training.batches import StepBatch

# Dense bf16, operations a second, of NVIDIA's data sheets; the longer name stands first.
_PEAKS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
}


def peak(name: str) -> float | None:
    """Return the bf16 operations a second of a GPU, by torch's name; None where it is not known."""
    found = (rate for known, rate in _PEAKS.items() if re.search(rf"\b{known}\b", name))
    return next(found, None)


class Operations:
    """Counts the operations of a dense causal LM's steps; experts would all be counted as used.

    Args:
        model: The model, its weights whole on this rank; with or without adapters.
    """

    def __init__(self, model: Any) -> None:
        head = model.get_output_embeddings()
        shape = model.config.get_text_config()
        width = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
        self._attention = 6 * shape.num_hidden_layers * shape.num_attention_heads * width
        self._matrices = sum(
            _passes(part) * part.weight.numel()
            for part in model.modules()
            if isinstance(part, torch.nn.Linear | Conv1D) and part is not head
        )
        self._head = _passes(head) * head.weight.numel()

    def of(self, batch: StepBatch) -> float:
        """Return the operations of this rank's micro-batches, forward and backward.

        A matrix takes two a weight and token forward, two for the gradient of what came in, and two
        for its own, if it learns. Attention is causal, within each sequence. The output head reads
        the tokens that are predicted alone.
        """
        total = 0.0
        for part in batch.micro_batches:
            lengths = np.diff(part.borders.numpy().astype(float))
            total += self._matrices * len(part.tokens) + self._head * len(part.targets)
            total += self._attention * float((lengths**2).sum())
        return total


def _passes(part: torch.nn.Linear | Conv1D) -> int:
    return 6 if part.weight.requires_grad else 4
