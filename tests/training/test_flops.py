"""Operations of a step are those that PyTorch counts, and peaks are those of data sheets."""

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from raystt.training.batches import MicroBatch, StepBatch
from raystt.training.flops import Operations, peak

LAYERS, WIDTH, TOKENS = 2, 32, 24


def model(kind: str):
    shape = {"n_layer": LAYERS, "n_embd": WIDTH, "n_head": 4} if kind == "gpt2" else {
        "num_hidden_layers": LAYERS, "hidden_size": WIDTH, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 48,
    }  # fmt: skip
    config = AutoConfig.for_model(kind, vocab_size=50, attn_implementation="eager", **shape)
    return AutoModelForCausalLM.from_config(config)


def batch(sequences: int = 1) -> StepBatch:
    """Sequences of `TOKENS`, packed, of which a quarter is predicted."""
    tokens = torch.arange(TOKENS * sequences) % 50
    predicting = torch.arange(0, TOKENS * sequences, 4)
    part = MicroBatch(
        tokens=tokens,
        positions=tokens % TOKENS,
        borders=torch.arange(0, TOKENS * sequences + 1, TOKENS, dtype=torch.int32),
        predicting=predicting,
        targets=tokens[predicting],
        longest=TOKENS,
    )
    return StepBatch((part,), len(predicting), len(tokens), 0, 1, 0, 1)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_operations_are_those_that_pytorch_counts(kind):
    made = model(kind)
    (part,) = batch().micro_batches
    with FlopCounterMode(display=False) as counter:
        logits = made(part.tokens[None], logits_to_keep=part.predicting).logits[0]
        functional.cross_entropy(logits, part.targets).backward()
    # It counts the whole square of attention, of which a causal model needs half.
    shape = made.config
    heads = shape.num_attention_heads * (getattr(shape, "head_dim", None) or WIDTH // 4)
    square = 6 * LAYERS * heads * TOKENS**2
    assert Operations(made).of(batch()) == counter.get_total_flops() - square


def test_packed_sequences_do_not_see_each_other():
    operations = Operations(model("llama"))
    assert operations.of(batch(3)) == 3 * operations.of(batch())


def test_frozen_matrices_have_no_gradients():
    made = model("llama")
    learning = Operations(made).of(batch())
    made.requires_grad_(False)
    attention = 6 * LAYERS * WIDTH * TOKENS**2
    assert Operations(made).of(batch()) - attention == pytest.approx((learning - attention) * 2 / 3)


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA L40", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_peaks_are_of_known_gpus_alone(name, rate):
    assert peak(name) == rate
