"""LoRA in place of full fine-tuning (the paper's is full): `peft`, imported only if asked for."""

from __future__ import annotations

import copy
from typing import cast

import torch
from transformers.modeling_utils import PreTrainedModel

from raystt.config import LoraConfig
from raystt.corpus.card import Card
from raystt.training.model import ModelError


def add_adapters(
    model: PreTrainedModel, config: LoraConfig, card: Card, *, seed: int
) -> torch.nn.Module:
    """Freeze a model and add adapters to all its linear layers but the head.

    The rows of the new tokens are trained in full: adapters cannot teach a model tokens that it
    never saw. They are trained as rows (`trainable_token_indices`) and not as whole tables
    (`modules_to_save`): the text rows stay frozen, the optimiser keeps no state for 128 000 of
    them, and a head that is tied to the embeddings stays tied.

    Args:
        model: The model with rows for the whole vocabulary; it is changed in place.
        config: Rank, scale and dropout.
        card: The corpus card: the rows from `base_vocabulary` on are new.
        seed: Seed of the adapters' start.

    Returns:
        A `peft.PeftModel`.

    Raises:
        ModelError: `peft` is not installed, or the head has a bias, which its rows cannot keep.
    """
    try:
        import peft
    except ImportError as error:
        raise ModelError("model.lora: `peft` is not installed; `pip install peft`") from error
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise ModelError(
            f"model.lora: the head of {type(model).__name__} has a bias, which peft would drop; "
            "set `lora: null`, or choose another model.base"
        )
    names = {id(module): name for name, module in model.named_modules()}
    rows = list(range(card.tokenizer.base_vocabulary, card.vocabulary))
    trained = {names[id(table)]: rows}
    if head is not None and head.weight is not table.weight:
        trained[names[id(head)]] = rows
    torch.manual_seed(seed)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # divided by the rank, whatever it is
        lora_dropout=config.dropout,
        target_modules="all-linear",
        trainable_token_indices=trained,
        task_type="CAUSAL_LM",
    )
    return cast(torch.nn.Module, peft.get_peft_model(model, settings))


def has_adapters(model: torch.nn.Module) -> bool:
    """Say whether `add_adapters` made the model."""
    return hasattr(model, "merge_and_unload")


def merged(model: torch.nn.Module) -> PreTrainedModel:
    """Return an ordinary transformers model with the adapters added to the weights.

    It is a copy: merging and taking apart again would round the weights of the one in training.
    """
    return cast(PreTrainedModel, copy.deepcopy(model).merge_and_unload())  # type: ignore[operator]
