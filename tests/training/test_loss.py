"""The loss without all its logits is the loss, with its gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from transformers import CohereConfig, CohereForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig
from transformers.modeling_utils import PreTrainedModel

from raystt.training import loss
from raystt.training.loss import ends_in, exposed, summed_loss
from raystt.training.model import PACKED, new_llama

SIZE = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 64,
        "attn_implementation": PACKED}  # fmt: skip


@pytest.mark.parametrize("biased", [True, False])
def test_rows_of_logits_at_a_time_give_the_whole(biased: bool, monkeypatch) -> None:
    monkeypatch.setattr(loss, "ROWS", 7)
    torch.manual_seed(1)
    hidden = torch.randn(30, 16, requires_grad=True)
    weight = torch.randn(50, 16, requires_grad=True)
    bias = torch.randn(50, requires_grad=True) if biased else None
    targets = torch.randint(50, (30,))
    asked = [part for part in (hidden, weight, bias) if part is not None]
    whole = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum")
    parts = summed_loss(hidden, weight, bias, targets)
    torch.testing.assert_close(parts, whole)
    expected = torch.autograd.grad(whole / 3, asked)
    for found, gradient in zip(torch.autograd.grad(parts / 3, asked), expected, strict=True):
        torch.testing.assert_close(found, gradient)


def test_a_target_without_a_chance_has_a_finite_loss() -> None:
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[500.0], [0.0]])
    found = summed_loss(hidden, weight, None, torch.tensor([1]))
    assert found.item() == pytest.approx(500)


def test_no_targets_have_no_loss() -> None:
    hidden = torch.zeros(0, 4, requires_grad=True)
    found = summed_loss(hidden, torch.ones(9, 4), None, torch.zeros(0, dtype=torch.long))
    found.backward()
    assert found.item() == 0.0


def llama() -> PreTrainedModel:
    return new_llama(vocabulary=50, hidden=32, layers=1, heads=4, pad=0, bos=1, eos=2)


def bounded() -> PreTrainedModel:
    config = Gemma3TextConfig(**SIZE, final_logit_softcapping=0.01)
    return Gemma3ForCausalLM(config)


def scaled() -> PreTrainedModel:
    return CohereForCausalLM(CohereConfig(**SIZE, logit_scale=0.5))


@pytest.mark.parametrize(("build", "plain"), [(llama, True), (bounded, False), (scaled, True)])
def test_what_is_done_after_the_head_is_found(
    build: Callable[[], PreTrainedModel], plain: bool
) -> None:
    """A scale goes through the head, which is linear; a bound does not."""
    torch.manual_seed(1)
    model = build().train()
    head = model.get_output_embeddings()
    assert ends_in(model, head) == plain
    assert model.training


def test_a_head_is_itself_again_afterwards() -> None:
    head = torch.nn.Linear(4, 9)
    with pytest.raises(KeyError), exposed(head):
        assert head(torch.ones(1, 4)).shape == (1, 4)
        raise KeyError
    assert head(torch.ones(1, 4)).shape == (1, 9)
