"""The causal language model over text tokens and speech units, and attention over packed batches.

A micro-batch is one row of concatenated sequences. The attention registered here under `PACKED`
computes each sequence on its own, so that packing costs neither padding nor the quadratic mask of
the whole row (on a CPU 2.1 times as fast as the masked row, `benchmarks/training_step.py`).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.modeling_utils import PreTrainedModel

PACKED = "raystt_packed"


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each packed sequence.

    Args:
        module: The attention module (unused; transformers passes it).
        query: `[1, heads, tokens, head_dim]`.
        key: `[1, kv_heads, tokens, head_dim]`.
        value: `[1, kv_heads, tokens, head_dim]`.
        attention_mask: Must be None: the borders are given by `cu_seq_lens_q`.
        scaling: Factor on the logits; None = 1/sqrt(head_dim).
        dropout: Attention dropout probability.
        cu_seq_lens_q: int32 `[sequences + 1]`, cumulative lengths.
        max_length_q: Longest sequence, in tokens.

    Returns:
        `[1, tokens, heads, head_dim]` and no attention weights.
    """
    if cu_seq_lens_q is None:
        raise ValueError(f"{PACKED} attention needs cu_seq_lens_q; use sdpa for generation")
    grouped = key.shape[1] != query.shape[1]
    if query.is_cuda and dropout == 0.0 and query.dtype in (torch.bfloat16, torch.float16):
        from torch.nn.attention.varlen import varlen_attn

        if grouped:
            repeat = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
        if max_length_q is None:
            raise ValueError(f"{PACKED} attention needs max_length_q on a GPU")
        q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
        # A window without look-ahead is causal attention.
        out = varlen_attn(
            q, k, v, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q,
            scale=scaling, window_size=(-1, 0),
        )  # fmt: skip
        assert isinstance(out, torch.Tensor)  # a tuple only where more is asked for
        return out[None], None
    borders = cu_seq_lens_q.tolist()
    parts = [
        F.scaled_dot_product_attention(
            query[:, :, a:b],
            key[:, :, a:b],
            value[:, :, a:b],
            is_causal=True,
            scale=scaling,
            dropout_p=dropout,
            enable_gqa=grouped,
        )
        for a, b in zip(borders[:-1], borders[1:], strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(PACKED, packed_attention)


def new_llama(
    *, vocabulary: int, hidden: int, layers: int, heads: int, pad: int, bos: int, eos: int
) -> PreTrainedModel:
    """Build a small randomly initialised LLaMA (the embedded corpus' text model)."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=-(-hidden * 11 // 4 // 32) * 32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=pad,
        bos_token_id=bos,
        eos_token_id=eos,
        attn_implementation=PACKED,
    )
    return LlamaForCausalLM(config)


def load_model(
    path: str | Path, *, attention: str = PACKED, dropout: float = 0.0
) -> PreTrainedModel:
    """Load a causal LM in fp32 from a `save_pretrained` directory or a hub name.

    Args:
        path: Directory or hub name.
        attention: `PACKED` for training, "sdpa" for generation.
        dropout: Attention dropout probability of training.

    Raises:
        FileNotFoundError: If a local path holds no model.
    """
    local = Path(path)
    if local.is_absolute() and not (local / "config.json").exists():
        raise FileNotFoundError(f"{local}: no model there (config.json is missing)")
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path, attn_implementation=attention, dtype=torch.float32
    )
    if hasattr(model.config, "attention_dropout"):
        model.config.attention_dropout = dropout
        for module in model.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = dropout
    return model


def parameter_count(model: torch.nn.Module) -> int:
    """Return the number of parameters (tied ones once)."""
    return sum(p.numel() for p in model.parameters())
