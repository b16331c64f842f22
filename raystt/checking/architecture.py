"""The sizes of the base model, read from its config without loading it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raystt.config.run import RunBase
from raystt.corpus.card import Card
from raystt.hub import pinned
from raystt.readers.grammar import LEXICONS, words

_SPECIAL_TOKENS = 8  # of the embedded corpus: framing, padding, mask, modality


@dataclass(frozen=True)
class Architecture:
    """A decoder of LLaMA's kind: rotary attention, a gated feed-forward part, no biases.

    Attributes:
        basis: Where the sizes come from, for people.
        layers: Decoder layers.
        hidden: Width of the residual stream.
        heads: Attention heads.
        kv_heads: Heads of keys and values.
        head_width: Width of a head.
        feed_forward: Width inside the feed-forward part.
        vocabulary: Tokens that it knows before the units are added.
        tied: Whether the head is the embedding table.
    """

    basis: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int
    vocabulary: int
    tied: bool

    @property
    def attention_width(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_width

    @property
    def linear_shapes(self) -> tuple[tuple[int, int], ...]:
        """Return (inputs, outputs) of the matrices of one layer."""
        kv = self.kv_heads * self.head_width
        attention = ((self.hidden, self.attention_width), (self.hidden, kv), (self.hidden, kv),
                     (self.attention_width, self.hidden))  # fmt: skip
        wide = (self.hidden, self.feed_forward)
        return (*attention, wide, wide, (self.feed_forward, self.hidden))

    def matrices(self) -> int:
        """Count the parameters that multiply each token: all but norms and the input table."""
        layer = sum(rows * columns for rows, columns in self.linear_shapes)
        return self.layers * layer + self.vocabulary * self.hidden

    def parameters(self) -> int:
        """Count all parameters, tied ones once."""
        norms = (2 * self.layers + 1) * self.hidden
        table = 0 if self.tied else self.vocabulary * self.hidden
        return self.matrices() + norms + table

    def extended(self, units: int) -> Architecture:
        """Return it with `units` more tokens."""
        return replace(self, vocabulary=self.vocabulary + units)

    def adapters(self, rank: int, units: int) -> int:
        """Count what LoRA trains: adapters of every linear layer, and the rows of new tokens."""
        a_layer = sum(rank * (rows + columns) for rows, columns in self.linear_shapes)
        return self.layers * a_layer + units * self.hidden * (1 if self.tied else 2)


PUBLISHED = {
    "meta-llama/Llama-3.2-1B": Architecture(
        basis="published sizes of meta-llama/Llama-3.2-1B",
        layers=16, hidden=2048, heads=32, kv_heads=8, head_width=64, feed_forward=8192,
        vocabulary=128256, tied=True,
    )
}  # fmt: skip
"""Sizes of the hub's models that shipped configs name, for machines that have no copy of them."""


def find_architecture(base: RunBase, card: Card | None) -> Architecture | None:
    """Return the sizes of `model.base` before the units are added, None if nothing here has them.

    They come from the embedded corpus' own config, from `config.json` of a local directory or of
    the hub's cache, or from `PUBLISHED`.
    """
    name, revision = pinned(base.model.base)
    if name == "corpus":
        return _of_the_corpus(base, card) if base.corpus.reader == "embedded" else None
    file = _config_file(name, revision)
    if file is not None:
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            return _of_config(data, f"config.json of {name}")
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not of this kind, or damaged: loading it will say so
    return PUBLISHED.get(name)


def _of_the_corpus(base: RunBase, card: Card | None) -> Architecture:
    lm = base.corpus.base
    if card is not None:
        vocabulary = card.tokenizer.text_vocabulary
    else:
        languages = {*base.corpus.languages, base.corpus.target} & LEXICONS.keys()
        vocabulary = len({word for name in languages for word in words(name)}) + _SPECIAL_TOKENS
    return Architecture(
        basis="corpus.base",
        layers=lm.layers,
        hidden=lm.hidden,
        heads=lm.heads,
        kv_heads=lm.heads,
        head_width=lm.hidden // lm.heads,
        feed_forward=-(-lm.hidden * 11 // 4 // 32) * 32,  # as `training.model.new_llama`
        vocabulary=vocabulary,
        tied=True,
    )


def _of_config(data: dict[str, Any], basis: str) -> Architecture:
    """Read a transformers config.

    Raises:
        KeyError: It is not of a decoder with LLaMA's names.
    """
    hidden, heads = int(data["hidden_size"]), int(data["num_attention_heads"])
    return Architecture(
        basis=basis,
        layers=int(data["num_hidden_layers"]),
        hidden=hidden,
        heads=heads,
        kv_heads=int(data.get("num_key_value_heads") or heads),
        head_width=int(data.get("head_dim") or hidden // heads),
        feed_forward=int(data["intermediate_size"]),
        vocabulary=int(data["vocab_size"]),
        tied=bool(data.get("tie_word_embeddings", False)),
    )


def _config_file(name: str, revision: str | None) -> Path | None:
    """Find the config.json of a model in its directory or in the hub's cache."""
    if Path(name).is_dir():
        return Path(name) / "config.json"
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
    except ValueError:  # no name of the hub, but a directory that is not there
        return None
    return Path(found) if isinstance(found, str) else None
