"""Packed attention: each sequence on its own, on a CPU and on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import tiny_corpus, tiny_run

from raystt.training.jobs import SegmentJob
from raystt.training.model import PACKED, load_model, new_llama, packed_attention
from raystt.training.segment import train_segment

LENGTHS = (5, 1, 9, 3)


def borders() -> torch.Tensor:
    return torch.cumsum(torch.tensor([0, *LENGTHS]), 0).to(torch.int32)


def test_a_packed_row_gives_what_each_sequence_gives_alone() -> None:
    torch.manual_seed(1)
    model = new_llama(vocabulary=50, hidden=32, layers=2, heads=2, pad=0, bos=1, eos=2).eval()
    tokens = torch.randint(3, 50, (1, sum(LENGTHS)))
    positions = torch.cat([torch.arange(n) for n in LENGTHS])[None]
    packed = model(
        input_ids=tokens, position_ids=positions, use_cache=False,
        cu_seq_lens_q=borders(), max_length_q=max(LENGTHS),
    ).logits[0]  # fmt: skip
    model.set_attn_implementation("sdpa")
    alone = [model(input_ids=part[None]).logits[0] for part in tokens[0].split(list(LENGTHS))]
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_grouped_keys_serve_their_queries() -> None:
    torch.manual_seed(1)
    query, key, value = (torch.randn(1, heads, sum(LENGTHS), 8) for heads in (4, 2, 2))
    grouped, _ = packed_attention(
        torch.nn.Identity(), query, key, value, None, cu_seq_lens_q=borders()
    )
    key, value = (x.repeat_interleave(2, dim=1) for x in (key, value))
    full, _ = packed_attention(
        torch.nn.Identity(), query, key, value, None, cu_seq_lens_q=borders()
    )
    torch.testing.assert_close(grouped, full)


def test_generation_must_not_use_it(tmp_path: Path) -> None:
    tiny_corpus(tmp_path)
    model = load_model(tmp_path / "base", attention=PACKED)
    with pytest.raises(ValueError, match="use sdpa for generation"):
        model(input_ids=torch.ones(1, 4, dtype=torch.long))
    assert load_model(tmp_path / "base", attention="sdpa").config.vocab_size == 68


def test_a_directory_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        load_model(tmp_path)


@pytest.mark.gpu
def test_flash_attention_is_the_loop_over_sequences() -> None:
    torch.manual_seed(1)
    shape = (1, 4, sum(LENGTHS), 64)
    query, key, value = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in "qkv")
    cuts = borders().cuda()
    flash, _ = packed_attention(
        torch.nn.Identity(), query, key, value, None, cu_seq_lens_q=cuts, max_length_q=9
    )
    loop, _ = packed_attention(
        torch.nn.Identity(), query.float(), key.float(), value.float(), None, cu_seq_lens_q=cuts
    )
    torch.testing.assert_close(flash.float(), loop, atol=3e-2, rtol=3e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_segment_trains_on_a_gpu(tmp_path: Path, precision: str) -> None:
    tiny_corpus(tmp_path / "corpus")
    run = tiny_run(
        tmp_path / "corpus", steps=40, learning_rate=1e-2, dropout=0.0, precision=precision
    )
    losses: list[float] = []
    job = SegmentJob(run, str(tmp_path / "corpus"), 0, 40, None, str(tmp_path / "states"))
    train_segment(job, on_step=lambda step: losses.append(step.loss))
    assert sum(losses[-4:]) < sum(losses[:4]) - 1.0
