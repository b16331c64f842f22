"""Segments: pure functions of their key, resumable bit for bit, forkable."""

from __future__ import annotations

import json
import math
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_corpus, tiny_run
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    Qwen2ForCausalLM,
)

from raystt.config import LoraConfig, ModelConfig
from raystt.corpus.card import Card
from raystt.schedule import Apart, Constant, Linear
from raystt.training.adapters import merged
from raystt.training.jobs import CheckpointError, SegmentJob, SegmentResult, StateLost, plan
from raystt.training.model import ModelError
from raystt.training.segment import segment_key, train_segment
from raystt.training.start import starting_model
from raystt.training.states import discard, find, partial_of, publish


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "corpus"
    tiny_corpus(path)
    return path


@pytest.fixture
def corpus(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "corpus")


def job(corpus: Path, start: int, stop: int, parent: SegmentResult | None = None, **training):
    return SegmentJob(
        run=tiny_run(corpus, **training),
        corpus=str(corpus),
        start=start,
        stop=stop,
        parent=parent.state if parent else None,
        states=str(corpus.parent / "states"),
        log=str(corpus.parent / "log"),
    )


def weights(result: SegmentResult) -> dict[str, torch.Tensor]:
    return load_file(result.model / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_segments_equal_one(corpus: Path, stage: int, precision: str) -> None:
    settings = {"zero_stage": stage, "precision": precision}
    whole = train_segment(job(corpus, 0, 6, **settings))
    first = train_segment(job(corpus, 0, 3, **settings))
    second = train_segment(job(corpus, 3, 6, first, **settings))
    assert same(weights(whole), weights(second))
    assert second.loss == whole.loss
    assert first.tokens + second.tokens == whole.tokens


def test_training_lowers_the_loss_and_changes_the_base(corpus: Path) -> None:
    result = train_segment(job(corpus, 0, 40, steps=40, learning_rate=1e-2, dropout=0.0))
    lines = [json.loads(x) for x in (corpus.parent / "log" / "train.jsonl").open()]
    assert [line["step"] for line in lines] == list(range(1, 41))
    assert np.mean([x["loss"] for x in lines[-4:]]) < np.mean([x["loss"] for x in lines[:4]]) - 0.3
    assert all(x["gradient_norm"] > 0 and x["tokens_per_second"] > 0 for x in lines)
    assert lines[0]["ratio"] == pytest.approx(0.9)
    assert lines[-1]["ratio"] == lines[-1]["achieved_words"] == 0.0
    assert list((corpus.parent / "log").glob("events.out.tfevents.*"))
    base = load_file(corpus / "base" / "model.safetensors")
    assert all(not torch.equal(base[name], tensor) for name, tensor in weights(result).items())
    model = AutoModelForCausalLM.from_pretrained(result.model)
    assert model.get_input_embeddings().weight.shape == (68, 32)


def pretrained(path: Path, kind: str = "qwen2", *, tied: bool = True, rows: int = 40) -> Path:
    """Write a model in the hub's layout that knows text only; 40 is the tiny corpus' text."""
    torch.manual_seed(5)
    config = AutoConfig.for_model(
        kind,
        vocab_size=rows,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        tie_word_embeddings=tied,
        bos_token_id=11,
        eos_token_id=12,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.6, eos_token_id=[12])
    model.save_pretrained(path)
    return path


def with_model(asked: SegmentJob, **model) -> SegmentJob:
    """Return the job with another `model` part."""
    return replace(asked, run=asked.run.model_copy(update={"model": ModelConfig(**model)}))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 3])
def test_what_is_saved_is_an_ordinary_model_with_its_tokenizer(corpus: Path, stage: int) -> None:
    base = pretrained(corpus.parent / "hub", "llama", tied=False)
    asked = job(corpus, 0, 3, zero_stage=stage)
    result = train_segment(with_model(asked, base=str(base)))
    card = Card.load(corpus)
    config = json.loads((result.model / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and config["dtype"] == "float32"
    assert config["vocab_size"] == 128 > card.vocabulary  # filled up
    generation = json.loads((result.model / "generation_config.json").read_text())
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    assert ids.items() <= generation.items() and ids.items() <= config.items()
    assert "temperature" not in generation
    tokenizer = AutoTokenizer.from_pretrained(result.model)
    assert len(tokenizer) == card.vocabulary
    model = AutoModelForCausalLM.from_pretrained(result.model)
    prompt = torch.tensor([[1, card.tokenizer.unit_offset, 3]])
    mask = torch.ones_like(prompt)
    written = model.generate(prompt, attention_mask=mask, max_new_tokens=8)
    assert written.shape[1] > 3
    assert tokenizer.decode(written[0]).startswith("<s> <unit_0> <sep>")
    assert tokenizer("word9 word8", add_special_tokens=False)["input_ids"] == [9, 8]


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_adapters_learn_beside_a_frozen_base(corpus: Path, tied: bool) -> None:
    base = pretrained(corpus.parent / "hub", tied=tied)
    settings = {"base": str(base), "lora": LoraConfig(rank=4, alpha=8.0)}
    steps: list[float] = []
    asked = job(corpus, 0, 40, steps=40, learning_rate=2e-2, dropout=0.0)
    result = train_segment(with_model(asked, **settings), on_step=lambda s: steps.append(s.loss))
    assert np.mean(steps[-4:]) < np.mean(steps[:4]) - 0.3
    before, after = load_file(base / "model.safetensors"), weights(result)
    assert before.keys() == after.keys()  # nothing of the adapters is left
    for name, tensor in before.items():
        if "embed_tokens" in name or "lm_head" in name:
            assert torch.equal(after[name][:40], tensor)  # the text rows are frozen
            assert not torch.equal(after[name][40:].mean(0), tensor.mean(0))
        elif "proj.weight" in name:
            assert not torch.equal(after[name], tensor)
        else:
            assert torch.equal(after[name], tensor)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "precision"), [(2, "fp32"), (1, "bf16")])
def test_two_segments_of_adapters_equal_one(corpus: Path, stage: int, precision: str) -> None:
    base = pretrained(corpus.parent / "hub")
    settings = {
        "base": str(base),
        "gradient_checkpointing": True,
        "lora": LoraConfig(rank=4, alpha=8.0, dropout=0.2),
    }

    def part(start: int, stop: int, parent: SegmentResult | None = None) -> SegmentResult:
        asked = job(corpus, start, stop, parent, zero_stage=stage, precision=precision)
        return train_segment(with_model(asked, **settings))

    whole, first = part(0, 6), part(0, 3)
    second = part(3, 6, first)
    assert same(weights(whole), weights(second)) and second.loss == whole.loss
    config = json.loads((whole.model / "config.json").read_text())
    assert config["dtype"] == {"fp32": "float32", "bf16": "bfloat16"}[precision]
    state = sum(f.stat().st_size for f in (Path(first.state) / "engine").rglob("*.pt"))
    asked = job(corpus, 0, 3, zero_stage=stage, precision=precision)
    plain = train_segment(with_model(asked, base=str(base)))
    full = sum(f.stat().st_size for f in (Path(plain.state) / "engine").rglob("*.pt"))
    assert state < 0.6 * full  # without the frozen weights and their optimiser


def test_merged_adapters_give_what_they_gave_beside_the_weights(corpus: Path) -> None:
    for tied in (True, False):
        base = pretrained(corpus.parent / f"hub-{tied}", tied=tied)
        asked = with_model(job(corpus, 0, 3), base=str(base), lora=LoraConfig(rank=4))
        model = starting_model(asked.run, corpus, Card.load(corpus)).eval()
        with torch.no_grad():
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.add_(torch.randn_like(parameter) * 0.1)
        tokens = torch.arange(20, 60)[None]
        packed = {"cu_seq_lens_q": torch.tensor([0, 40]), "max_length_q": 40}
        expected = model(input_ids=tokens, use_cache=False, **packed).logits
        plain = merged(model)
        assert type(plain) is Qwen2ForCausalLM
        torch.testing.assert_close(
            plain(input_ids=tokens, use_cache=False, **packed).logits,
            expected,
            atol=1e-4,
            rtol=1e-4,
        )
        head = plain.get_output_embeddings().weight is plain.get_input_embeddings().weight
        assert head is tied


@pytest.mark.slow
def test_dropout_is_on_in_training(corpus: Path) -> None:
    losses = [train_segment(job(corpus, 0, 1, dropout=p)).loss for p in (0.0, 0.5)]
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_gradient_checkpointing_gives_the_same_steps(corpus: Path) -> None:
    results = [
        train_segment(with_model(job(corpus, 0, 3), gradient_checkpointing=on))
        for on in (False, True)
    ]
    assert results[0].state != results[1].state
    for name, tensor in weights(results[0]).items():
        torch.testing.assert_close(tensor, weights(results[1])[name], atol=1e-6, rtol=1e-5)


def test_what_does_not_go_together_is_refused(corpus: Path) -> None:
    untold = replace(Card.load(corpus), base=None)
    with pytest.raises(ModelError, match=r"model\.base: .* has no text LM of its own"):
        starting_model(job(corpus, 0, 3).run, corpus, untold)
    cut = with_model(job(corpus, 0, 3, zero_stage=3), lora=LoraConfig())
    with pytest.raises(ModelError, match=r"training\.zero_stage: 3"):
        train_segment(cut)
    small = pretrained(corpus.parent / "small", rows=30)
    with pytest.raises(ModelError, match="30 token embeddings, the corpus' tokenizer has 40"):
        train_segment(with_model(job(corpus, 0, 3), base=str(small)))
    short = pretrained(corpus.parent / "short")
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8}))
    with pytest.raises(ModelError, match=r"tokens at step 0, the model's context is 8"):
        train_segment(with_model(job(corpus, 0, 3), base=str(short)))


def test_finished_segment_is_not_trained_again(corpus: Path) -> None:
    first = train_segment(job(corpus, 0, 3))
    told: list[object] = []
    again = train_segment(job(corpus, 0, 3), on_step=told.append)
    assert again == replace(first, reused=True) and not told


RANK = """
import json, pickle, sys
from dataclasses import asdict
import torch.distributed as dist
from raystt.training.jobs import StateLost
from raystt.training.segment import train_segment
rank, store, jobs = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
for job in pickle.load(open(jobs, "rb"))[rank]:
    try:
        print(json.dumps(asdict(train_segment(job))))
    except StateLost as lost:
        print(json.dumps({"lost": lost.state}))
"""


@pytest.mark.slow
def test_one_rank_decides_whether_a_segment_is_there(corpus: Path) -> None:
    """As on a network file system that shows `states` to one of two nodes first."""
    known = job(corpus, 0, 1)
    state = Path(known.states) / segment_key(known, Card.load(corpus), 2)
    done = SegmentResult(str(state), "diverged", 0, 1, 1.0, 0.1, 10, 2.5, 0.5, 0.5, 0)
    partial = partial_of(state)
    partial.mkdir(parents=True)
    publish(partial, state, done)
    blind = replace(known, states=str(corpus.parent / "elsewhere"))
    lost = replace(known, start=1, stop=2, parent=f"{corpus.parent}/lost")
    (corpus.parent / "jobs").write_bytes(pickle.dumps([[known, lost, blind], [blind, lost, known]]))
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", "import json\nfrom dataclasses import asdict\n" + RANK,
             str(rank), str(corpus.parent / "store"), str(corpus.parent / "jobs")],
            stdout=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    try:
        printed = [process.communicate(timeout=120)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    told = [[json.loads(line) for line in text.splitlines()] for text in printed]
    found, raised, trained = zip(*told, strict=True)
    assert [SegmentResult(**values) for values in found] == [replace(done, reused=True)] * 2
    assert raised == ({"lost": lost.parent},) * 2
    assert [values["reused"] for values in trained] == [False, False]
    assert trained[0]["loss"] == trained[1]["loss"] != done.loss


def test_unfinished_segment_is_trained_again(corpus: Path) -> None:
    whole = train_segment(job(corpus, 0, 3))
    before = weights(whole)
    (Path(whole.state) / "done.json").unlink()
    again = train_segment(job(corpus, 0, 3))
    assert same(before, weights(again))


@pytest.mark.slow
def test_a_branch_cools_down_and_leaves_the_trunk_alone(corpus: Path) -> None:
    trunk = train_segment(job(corpus, 0, 2))
    before = weights(trunk)
    branch = replace(job(corpus, 2, 6, trunk), cooldown=True)
    forked = train_segment(branch)
    ratio = branch.run.schedule.ratio(2 / branch.run.training.steps)
    falling = [ratio, round(ratio / 2, 12), 0.0, 0.0]
    assert branch.ratios().tolist() == [[one, one] for one in falling]
    lines = [json.loads(x) for x in (Path(str(branch.log)) / "train.jsonl").read_text().split("\n")
             if x]  # fmt: skip
    rates = [line["learning_rate"] for line in lines][-4:]  # each of the step that follows
    assert rates == pytest.approx([rates[0] * left for left in (1, 2 / 3, 1 / 3, 0)])
    on = train_segment(job(corpus, 2, 6, trunk))
    assert forked.state != on.state and forked.achieved_words < on.achieved_words
    assert same(before, weights(trunk))
    assert not (Path(forked.state) / "engine").exists()


@pytest.mark.slow
def test_sides_apart_are_trained_apart(corpus: Path) -> None:
    both = job(corpus, 0, 3)

    def scheduled(schedule: Any) -> SegmentJob:
        return replace(both, run=both.run.model_copy(update={"schedule": schedule}))

    card, one = Card.load(corpus), Linear(initial=0.5)
    apart = scheduled(Apart(source=one, target=one))
    assert segment_key(apart, card, 1) == segment_key(scheduled(one), card, 1)  # the same tokens
    other = scheduled(Apart(source=one, target=Constant(initial=0.0)))
    results = [train_segment(scheduled(one)), train_segment(other)]
    assert 0 < results[1].achieved_words < results[0].achieved_words
    swapped = scheduled(Apart(source=Constant(initial=0.0), target=one))
    assert len({segment_key(x, card, 1) for x in (apart, other, swapped)}) == 3


def test_key_depends_on_what_decides_the_result(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card.load(corpus)
    auto, fp32, bf16 = (
        job(corpus, 0, 3, precision=precision) for precision in ("auto", "fp32", "bf16")
    )
    assert segment_key(auto, card, 1) == segment_key(fp32, card, 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert segment_key(auto, card, 1, "cuda") == segment_key(bf16, card, 1)
    assert segment_key(fp32, card, 1) != segment_key(bf16, card, 1)
    key = segment_key(job(corpus, 0, 3), card, 1)
    assert key == segment_key(job(corpus, 0, 3, log_every=5), card, 1)
    others = [
        segment_key(job(corpus, 0, 3), card, 2),
        segment_key(job(corpus, 0, 2), card, 1),
        segment_key(job(corpus, 0, 3, learning_rate=2e-3), card, 1),
        segment_key(replace(job(corpus, 0, 3), parent="states/other"), card, 1),
        segment_key(with_model(job(corpus, 0, 3), base="other/model"), card, 1),
        segment_key(with_model(job(corpus, 0, 3), embedding_init="mean"), card, 1),
        segment_key(with_model(job(corpus, 0, 3), lora=LoraConfig()), card, 1),
    ]
    assert len({key, *others}) == 8


def test_a_damaged_parent_is_lost(corpus: Path) -> None:
    first = train_segment(job(corpus, 0, 3))
    victim = next((Path(first.state) / "engine" / "engine").iterdir())
    victim.unlink()
    with pytest.raises(StateLost, match=victim.name) as lost:
        train_segment(job(corpus, 3, 6, first))
    assert lost.value.state == first.state and not Path(first.state).exists()


def rewrite(result: SegmentResult, change: Callable[[Path], object]) -> None:
    """Change the files of a state as somebody could who may write there: hashes and all."""
    state = Path(result.state)
    partial = shutil.copytree(state, partial_of(state), ignore=lambda *_: ["done.json"])
    change(partial / "engine")
    discard(state)
    publish(partial, state, result)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["resources.workers_per_trainer", "training.zero_stage"])
def test_a_state_of_another_kind_of_group_is_refused(corpus: Path, key: str) -> None:
    first = train_segment(job(corpus, 0, 3))

    def change(engine: Path) -> None:
        group = json.loads((engine / "group.json").read_text())
        (engine / "group.json").write_text(json.dumps({**group, key: 4}))

    rewrite(first, change)
    with pytest.raises(CheckpointError, match=f"set {key} to 4"):
        train_segment(job(corpus, 3, 6, first))
    assert find(Path(first.state)) is not None  # training it again would not mend that


class Code:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> object:
        return os.mkdir, (self.path,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "name"),
    [(0, "model_states"), (1, "model_states"), (1, "optim_states"), (3, "optim_states")],
)
def test_code_in_a_state_is_not_run(corpus: Path, stage: int, name: str) -> None:
    # One worker has optimiser states apart at stage 1 in bf16 alone.
    settings = {"zero_stage": stage, "precision": "bf16" if stage == 1 else "fp32"}
    first = train_segment(job(corpus, 0, 3, **settings))
    made = corpus.parent / "made by code"

    def change(engine: Path) -> None:
        (file,) = engine.rglob(f"*{name}.pt")
        content = torch.load(file, weights_only=False)
        torch.save({**content, "ds_version": Code(made)}, file)
        torch.load(file, weights_only=False)
        made.rmdir()  # the code works

    rewrite(first, change)
    with pytest.raises(CheckpointError, match=f"{name}.pt: is no training state"):
        train_segment(job(corpus, 3, 6, first, **settings))
    assert not made.exists()


@contextmanager
def room_for_files_of(size: int) -> Iterator[None]:
    """Let no file of this process grow over a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1])
def test_a_full_disk_leaves_no_half_state(corpus: Path, stage: int) -> None:
    asked = replace(job(corpus, 0, 1, zero_stage=stage), log=None)
    states = Path(asked.states)
    whole = train_segment(asked)
    sizes = {path.stat().st_size for path in Path(whole.state).rglob("*") if path.is_file()}
    before = weights(whole)
    discard(Path(whole.state))
    # In a file's first bytes, in its middle and in its last bytes, for weights and for shards.
    for limit in {room for size in sorted(sizes)[-2:] for room in (100, size // 2, size - 1)}:
        with pytest.raises(Exception), room_for_files_of(limit):  # noqa: B017
            train_segment(asked)
        assert list(states.iterdir()) == []
    assert same(before, weights(train_segment(asked)))


def test_divergence_is_a_result(corpus: Path) -> None:
    result = train_segment(job(corpus, 0, 6, learning_rate=1e30, gradient_clipping=0.0, warmup=0.0))
    assert result.status == "diverged"
    assert result.diverged_at is not None and not math.isfinite(result.loss)


def test_plan_covers_the_horizon() -> None:
    for steps in (1, 7, 350):
        for count in range(1, min(steps, 9) + 1):
            borders = plan(steps, count)
            assert borders[0][0] == 0 and borders[-1][1] == steps
            assert all(a[1] == b[0] for a, b in zip(borders, borders[1:], strict=False))
