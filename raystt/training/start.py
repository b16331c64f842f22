"""The model that a run starts from: loaded, extended by the units, and made ready to train."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GenerationConfig
from transformers.modeling_utils import PreTrainedModel

from raystt.config import RunConfig
from raystt.corpus.card import Card
from raystt.training.adapters import add_adapters
from raystt.training.model import ModelError, load_model
from raystt.training.vocabulary import extend, read_centroids


def starting_model(run: RunConfig, corpus: Path, card: Card) -> torch.nn.Module:
    """Build the model that step 0 of a run trains, in fp32.

    Args:
        run: The run; `model`, `training.dropout` and `seed` decide.
        corpus: Directory of the prepared corpus.
        card: Its card.

    Raises:
        ModelError: There is no such model, or it does not go with the corpus or the config.
    """
    config = run.model
    if config.lora is not None and run.training.zero_stage == 3:
        raise ModelError(
            "training.zero_stage: 3 cuts up the embeddings that model.lora trains rows of; set "
            "2: adapters leave the optimiser little to share out"
        )
    name: str | Path = config.base
    if config.base == "corpus":
        if card.base is None:
            raise ModelError(
                f"model.base: {corpus} has no text LM of its own; name a pretrained model, the "
                "one that `corpus.tokenizer` belongs to"
            )
        name = corpus / card.base
    model = load_model(name, dropout=run.training.dropout)
    centroids = None
    if config.embedding_init == "kmeans" and config.base != "corpus":
        centroids = read_centroids(corpus, card)
    extend(model, card, init=config.embedding_init, seed=run.seed, centroids=centroids)
    frame(model, card)
    if config.gradient_checkpointing:
        # Newer versions of transformers have the first name, and warn of the second.
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    if config.lora is not None:
        return add_adapters(model, config.lora, card, seed=run.seed)
    return model


def frame(model: PreTrainedModel, card: Card) -> None:
    """Make the corpus' framing tokens the model's, so that who loads it generates with them."""
    names = card.tokenizer
    ids = {"bos_token_id": names.bos, "eos_token_id": names.eos, "pad_token_id": names.pad}
    text = model.config.get_text_config()
    for key, value in ids.items():
        setattr(text, key, value)
    # Not the base's: its sampling temperature or further stop tokens are those of chat.
    model.generation_config = GenerationConfig(**ids)
