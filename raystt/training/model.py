"""The causal language model over text tokens and speech units, and attention over packed batches.

A micro-batch is one row of concatenated sequences. The attention registered here under `PACKED`
computes each sequence on its own, so that packing costs neither padding nor the quadratic mask of
the whole row (`benchmarks/attention.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.modeling_utils import PreTrainedModel

from raystt.errors import BadInput
from raystt.hub import MODEL_CONFIG, pinned

PACKED = "raystt_packed"
_FLASH = (torch.bfloat16, torch.float16)  # what flash attention computes in

DROPOUTS = (
    "attention_dropout",
    "attn_pdrop",
    "resid_pdrop",
    "embd_pdrop",
    "hidden_dropout",
    "dropout",
)
"""Config fields of decoders that `training.dropout` sets. LLaMA, Qwen and Gemma have the first
alone; GPT-2, Phi, GPT-NeoX and OPT have others of them too."""


class ModelError(BadInput, ValueError):
    """A base model that cannot be loaded, extended or packed; the text names it and the fix."""


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each packed sequence.

    Args:
        module: The attention module; one that is not causal is refused.
        query: `[1, heads, tokens, head_dim]`.
        key: `[1, kv_heads, tokens, head_dim]`.
        value: `[1, kv_heads, tokens, head_dim]`.
        attention_mask: Must be None: the borders are given by `cu_seq_lens_q`.
        scaling: Factor on the logits; None = 1/sqrt(head_dim).
        dropout: Attention dropout probability.
        sliding_window: Tokens that a token sees, itself among them; None = all before it.
        softcap: Bound of the logits; refused, as PyTorch's own attention has none.
        s_aux: Attention sinks; refused like it.
        cu_seq_lens_q: int32 `[sequences + 1]`, cumulative lengths: on the GPU for bf16 there, else
            best on the CPU, where reading them waits for nothing.
        max_length_q: Longest sequence, in tokens.

    Returns:
        `[1, tokens, heads, head_dim]` and no attention weights.

    Raises:
        ModelError: The model needs attention of another kind.
    """
    if cu_seq_lens_q is None:
        raise ValueError(f"{PACKED} attention needs cu_seq_lens_q; use sdpa for generation")
    if softcap is not None or s_aux is not None or not getattr(module, "is_causal", True):
        raise ModelError(
            f"{type(module).__name__}: its attention has bounded logits, sinks or no causal "
            "order; choose a model.base with plain causal attention"
        )
    if query.is_cuda and query.dtype in _FLASH and query.shape[-1] % 8 == 0:
        if max_length_q is None:
            raise ValueError(f"{PACKED} attention needs max_length_q on a GPU")
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
        # Not `varlen_attn`: that has no dropout, and in torch 2.11 no grouped keys either.
        out = torch.ops.aten._flash_attention_forward(
            q, k, v, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q, dropout, True, False,
            scale=scaling, window_size_left=None if sliding_window is None else sliding_window - 1,
        )[0]  # fmt: skip
        return out[None], None
    # Split and not sliced: the gradient of a slice is as long as the whole row, and zero elsewhere.
    lengths = cu_seq_lens_q.diff().tolist()
    parts = []
    for q, k, v in zip(
        *(x.transpose(1, 2).split(lengths, 1) for x in (query, key, value)), strict=True
    ):
        length, band = q.shape[1], None
        if sliding_window is not None and length > sliding_window:
            band = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
            band = band.triu(1 - sliding_window)
        part = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=band,
            is_causal=band is None,
            scale=scaling,
            dropout_p=dropout,
            enable_gqa=key.shape[1] != query.shape[1],
        )
        parts.append(part.transpose(1, 2))
    return torch.cat(parts, dim=1), None


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
    name: str | Path,
    *,
    attention: str = PACKED,
    dropout: float = 0.0,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
) -> PreTrainedModel:
    """Load a causal LM from a `save_pretrained` directory or the hub.

    Args:
        name: Directory, or NAME or NAME@REVISION of the hub.
        attention: `PACKED` for training, "sdpa" for generation.
        dropout: Dropout probability of training: all of `DROPOUTS` that the model has.
        dtype: Of its weights; "auto": as they were saved.

    Raises:
        ModelError: There is no causal LM, or its attention cannot be packed.
    """
    place, revision = pinned(name)
    local = Path(place)
    if (local.is_absolute() or local.is_dir()) and not (local / MODEL_CONFIG).exists():
        raise ModelError(f"{local}: no model there (config.json is missing); correct model.base")
    try:
        config = AutoConfig.from_pretrained(place, revision=revision)
        if config.is_encoder_decoder:
            raise ModelError(f"{name}: an encoder-decoder model; choose a decoder as model.base")
        text = config.get_text_config()
        for field in DROPOUTS:
            if hasattr(text, field):
                setattr(text, field, dropout)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            place,
            revision=revision,
            config=config,
            attn_implementation=attention,
            dtype=dtype,
        )
    except ModelError:
        raise
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{name}: no causal language model could be loaded ({reason}); give a directory or "
            "a NAME@REVISION of the hub that this machine reaches"
        ) from error
    if attention == PACKED:
        refuse_unpackable(model, str(name))
    return model


@torch.no_grad()
def refuse_unpackable(model: PreTrainedModel, name: str) -> None:
    """Make sure that a sequence does not see the one it is packed behind.

    Architectures differ in whether they use the registered attention, honour `position_ids` and
    keep a state beside attention: so it is tried, on five tokens, instead of looked up in a list.

    Raises:
        ModelError: The second sequence of a pack differs from itself alone.
    """
    unusual = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    unusual -= {"full_attention", "sliding_attention"}
    fix = "choose a decoder with plain causal attention as model.base, such as LLaMA"
    if unusual or not model._supports_attention_backend:
        layers = ", ".join(sorted(unusual)) or "attention of its own"
        raise ModelError(f"{name}: {type(model).__name__} has {layers}, not packable; {fix}")
    was_training = model.training
    model.eval()
    try:
        first = torch.tensor([[3, 4, 5]], device=model.device)
        second = torch.tensor([[6, 7]], device=model.device)
        packed = packed_logits(model, torch.cat([first, second], 1), [0, 3, 5])[3:]
        alone = packed_logits(model, second, [0, 2])
    except TypeError as error:
        reason = f"{name}: {type(model).__name__} takes no packed batch ({error})"
        raise ModelError(f"{reason}; {fix}") from error
    finally:
        model.train(was_training)
    if (packed - alone).abs().max() > 1e-3 * alone.std():
        reason = f"{name}: {type(model).__name__} mixes the sequences of a packed batch"
        raise ModelError(f"{reason}; {fix}")


def packed_logits(model: PreTrainedModel, tokens: torch.Tensor, borders: list[int]) -> torch.Tensor:
    """Return the logits of a packed row, `[tokens, vocabulary]`."""
    lengths = [b - a for a, b in zip(borders[:-1], borders[1:], strict=True)]
    positions = torch.cat([torch.arange(n, device=tokens.device) for n in lengths])
    output = model(
        input_ids=tokens,
        position_ids=positions[None],
        use_cache=False,
        logits_to_keep=torch.arange(tokens.shape[1], device=tokens.device),
        cu_seq_lens_q=torch.tensor(borders, dtype=torch.int32, device=tokens.device),
        max_length_q=max(lengths),
    )
    logits: torch.Tensor = output.logits[0]
    return logits


def context(model: PreTrainedModel) -> int:
    """Return the longest sequence that a model takes, in tokens (its positions)."""
    text = model.config.get_text_config()
    return int(getattr(text, "max_position_embeddings", None) or 1 << 30)
