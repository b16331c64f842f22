"""Models: packed attention is each sequence on its own, in every architecture that is let in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import tiny_corpus, tiny_run
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_utils import PreTrainedModel

from raystt.training.jobs import SegmentJob
from raystt.training.model import (
    DROPOUTS,
    PACKED,
    ModelError,
    load_model,
    packed_attention,
)
from raystt.training.segment import train_segment

LENGTHS = (5, 1, 9, 3)
SIZE = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 64}  # fmt: skip
GPT2 = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "vocab_size": 50,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
}

PACKABLE = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZE, tie_word_embeddings=False)),
    "llama tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZE, tie_word_embeddings=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZE)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SIZE)),
    "mistral, window": lambda: MistralForCausalLM(MistralConfig(**SIZE, sliding_window=4)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
}

REFUSED = {
    "own attention": (
        lambda: BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=32, n_layer=1, n_head=2)),
        "BloomForCausalLM",
    ),
    "state": (
        lambda: MambaForCausalLM(
            MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, state_size=4)
        ),
        "MambaForCausalLM",
    ),
    "bounded logits": (lambda: Gemma2ForCausalLM(Gemma2Config(**SIZE)), "bounded logits"),
    "both directions": (
        lambda: BertLMHeadModel(
            BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                       intermediate_size=32)
        ),
        "no causal order",
    ),
    "encoder": (
        lambda: T5ForConditionalGeneration(
            T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        ),
        "encoder-decoder",
    ),
}  # fmt: skip


def borders() -> torch.Tensor:
    return torch.cumsum(torch.tensor([0, *LENGTHS]), 0).to(torch.int32)


def saved(build, path: Path) -> Path:
    torch.manual_seed(1)
    model: PreTrainedModel = build()
    model.save_pretrained(path)
    return path


@pytest.mark.parametrize("name", PACKABLE)
def test_a_packed_row_gives_what_each_sequence_gives_alone(name: str, tmp_path: Path) -> None:
    model = load_model(saved(PACKABLE[name], tmp_path))
    tokens = torch.randint(3, 50, (1, sum(LENGTHS)))
    positions = torch.cat([torch.arange(n) for n in LENGTHS])[None]
    packed = model(
        input_ids=tokens, position_ids=positions, use_cache=False,
        cu_seq_lens_q=borders(), max_length_q=max(LENGTHS),
    ).logits[0]  # fmt: skip
    model = load_model(tmp_path, attention="sdpa")
    alone = [model(input_ids=part[None]).logits[0] for part in tokens[0].split(list(LENGTHS))]
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_packed_is_refused_by_name(name: str, tmp_path: Path) -> None:
    build, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason):
        load_model(saved(build, tmp_path))


def test_packing_is_tried_and_not_looked_up(tmp_path: Path, monkeypatch) -> None:
    """A model that takes part in the interface but does not honour what it is given."""
    path = saved(PACKABLE["gpt2"], tmp_path)
    original = GPT2LMHeadModel.forward

    def without_positions(self, *args, position_ids=None, **more):
        return original(self, *args, **more)

    monkeypatch.setattr(GPT2LMHeadModel, "forward", without_positions)
    with pytest.raises(ModelError, match="GPT2LMHeadModel mixes the sequences"):
        load_model(path)


def test_dropout_reaches_every_layer_that_has_one(tmp_path: Path) -> None:
    gpt2 = load_model(saved(PACKABLE["gpt2"], tmp_path / "gpt2"), dropout=0.2)
    inner = [m.p for m in gpt2.modules() if isinstance(m, torch.nn.Dropout)]
    assert inner and set(inner) == {0.2}
    llama = load_model(saved(PACKABLE["llama"], tmp_path / "llama"), dropout=0.2)
    assert llama.model.layers[0].self_attn.attention_dropout == 0.2
    assert {name for name in DROPOUTS if hasattr(llama.config, name)} == {"attention_dropout"}


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


def test_a_name_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="nobody/nothing@abc: no causal language model"):
        load_model("nobody/nothing@abc")


def attended(dtype: torch.dtype, device: str, **more) -> list[torch.Tensor]:
    """Attend with grouped keys; return the output and the gradients of query, key and value."""
    generator = torch.Generator().manual_seed(1)
    inputs = [
        torch.randn(1, sum(LENGTHS), heads, 64, generator=generator).transpose(1, 2)
        for heads in (4, 2, 2)
    ]
    inputs = [x.to(device, dtype).requires_grad_() for x in inputs]
    cuts = borders().to(device)
    out, _ = packed_attention(
        torch.nn.Identity(), *inputs, None, cu_seq_lens_q=cuts, max_length_q=max(LENGTHS), **more
    )
    weights = torch.linspace(-1, 1, out.numel(), device=device).view(out.shape).to(dtype)
    return [x.float().cpu() for x in (out, *torch.autograd.grad(out, inputs, weights))]


@pytest.mark.parametrize("window", [None, 3])
def test_gradients_are_those_of_one_masked_row(window: int | None) -> None:
    found = attended(torch.float64, "cpu", sliding_window=window)
    generator = torch.Generator().manual_seed(1)
    inputs = [
        torch.randn(1, sum(LENGTHS), heads, 64, generator=generator).double().transpose(1, 2)
        for heads in (4, 2, 2)
    ]
    query, key, value = (x.requires_grad_() for x in inputs)
    sequence = torch.repeat_interleave(torch.tensor(LENGTHS))
    seen = (sequence[:, None] == sequence).tril()
    if window is not None:
        seen = seen.triu(1 - window)
    whole = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, enable_gqa=True
    ).transpose(1, 2)
    weights = torch.linspace(-1, 1, whole.numel()).view(whole.shape).double()
    expected = (whole, *torch.autograd.grad(whole, (query, key, value), weights))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.float(), atol=1e-6, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 3])
def test_flash_attention_is_the_loop_over_sequences(window: int | None) -> None:
    loop = attended(torch.float32, "cpu", sliding_window=window)
    flash = attended(torch.bfloat16, "cuda", sliding_window=window)
    for one, other in zip(flash, loop, strict=True):
        assert (one - other).norm() < 0.01 * other.norm()


@pytest.mark.gpu
def test_dropout_of_flash_attention_is_right_on_average() -> None:
    torch.manual_seed(1)
    loop = attended(torch.float32, "cpu")
    many = [attended(torch.bfloat16, "cuda", dropout=0.2) for _ in range(400)]
    for index, expected in enumerate(loop):
        mean = sum(one[index] for one in many) / len(many)
        assert (mean - expected).norm() < 0.06 * expected.norm()
        apart = sum(float((one[index] - expected).norm()) for one in many) / len(many)
        assert apart > 0.1 * expected.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_segment_trains_on_a_gpu(tmp_path: Path, precision: str) -> None:
    tiny_corpus(tmp_path / "corpus")
    run = tiny_run(
        tmp_path / "corpus", steps=40, learning_rate=1e-2, dropout=0.0, precision=precision
    )
    losses: list[float] = []
    job = SegmentJob(run, str(tmp_path / "corpus"), 0, 40, None, str(tmp_path / "states"))
    train_segment(job, on_step=lambda step: losses.append(step.loss), device="cuda")
    assert sum(losses[-4:]) < sum(losses[:4]) - 1.0
