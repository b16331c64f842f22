"""The loss over a large vocabulary without all its logits, for GPUs.

The logits of 8192 tokens over 130,000 words are 2 GB in bf16, and cross entropy in fp32 holds three
more copies of twice that. Their gradient follows from them at once (softmax less one at the
target), so some rows of them are made, turned into the gradients of what they were made of, and
forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from transformers.modeling_utils import PreTrainedModel

from raystt.training.device import can_compile
from raystt.training.model import packed_logits

Fn = TypeVar("Fn", bound=Callable[..., Any])

ROWS = 2048
"""Rows of logits that exist at a time. An H100 is as fast with 1024 and with 4096 of them."""


@contextmanager
def exposed(head: torch.nn.Module) -> Iterator[None]:
    """Let a model give what its head would be given in place of logits."""
    head.forward = lambda hidden: hidden  # type: ignore[method-assign]
    try:
        yield
    finally:
        del head.forward


@torch.no_grad()
def ends_in(model: PreTrainedModel, head: torch.nn.Module) -> bool:
    """Say whether a model's logits are what its head gives, or something is done to them after.

    It is tried, on five tokens: architectures bound or scale them by keys of different names.
    """
    was_training = model.training
    model.eval()
    tokens = torch.tensor([[3, 4, 5, 6, 7]], device=model.device)
    logits = packed_logits(model, tokens, [0, 5])
    with exposed(head):
        hidden = packed_logits(model, tokens, [0, 5])
    model.train(was_training)
    return torch.allclose(head(hidden), logits, rtol=1e-3, atol=1e-3)


def summed_loss(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """Return the summed negative log-likelihood of targets, nats, fp32 scalar.

    Args:
        hidden: `[tokens, width]`, what the head is given.
        weight: `[vocabulary, width]` of the head.
        bias: `[vocabulary]` of the head, if it has one.
        targets: int64 `[tokens]`.
    """
    loss: torch.Tensor = _SummedLoss.apply(hidden, weight, bias, targets)
    return loss


class _SummedLoss(torch.autograd.Function):
    """Computes the gradients with the loss, and scales them when they are asked for."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets):
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        to_bias = None if bias is None else torch.zeros_like(bias)
        of_logits = _for(hidden, _of_logits)
        total = torch.zeros((), device=hidden.device)
        for first in range(0, len(hidden), ROWS):
            part = slice(first, first + ROWS)
            loss, grad = of_logits(F.linear(hidden[part], weight, bias), targets[part])
            total += loss
            torch.mm(grad, weight, out=to_hidden[part])
            to_weight.addmm_(grad.T, hidden[part])
            if to_bias is not None:
                to_bias += grad.sum(0)
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
        return total

    @staticmethod
    def backward(ctx, upstream):
        scaled = _for(upstream, _scaled)
        return *(scaled(grad, upstream) for grad in ctx.saved_tensors), None


def _scaled(grad: torch.Tensor | None, factor: torch.Tensor) -> torch.Tensor | None:
    # Not in bf16: a factor of 1/37,000 would be off by up to 0.4 %.
    return None if grad is None else (grad.float() * factor).to(grad.dtype)


def _of_logits(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed loss of `[tokens, vocabulary]`, fp32, and its gradient in their dtype."""
    places = targets[:, None]
    shares = torch.softmax(logits, -1, dtype=torch.float32)
    # The largest share is never 0, as that of a target may be: it gives the normaliser.
    largest, where = shares.max(-1, keepdim=True)
    norm = logits.gather(-1, where).float() - largest.log()
    loss = (norm - logits.gather(-1, places).float()).sum()
    shares.scatter_add_(-1, places, shares.new_full(places.shape, -1.0))
    return loss, shares.to(logits.dtype)


@cache
def _compiled(function: Fn) -> Fn:
    # One pass over the logits to read them and one to write their gradient, in place of six.
    return cast(Fn, torch.compile(function, dynamic=True))


def _for(tensor: torch.Tensor, function: Fn) -> Fn:
    """Return a function as it is, or compiled where its tensors lie on a GPU.

    Not when this module is imported: the compiler takes two seconds to load, on any machine.
    """
    return _compiled(function) if tensor.is_cuda and can_compile() else function
