"""Estimates against hand calculations, and the model's size against transformers' own count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import tiny_run, tiny_search

from raystt.checking import lengths
from raystt.checking.cost import A100, CPU, estimate, evaluation_seconds, training_seconds
from raystt.checking.lengths import Lengths, achieved
from raystt.checking.size import PUBLISHED, Model, base_model, recogniser, trainer_memory
from raystt.config import RunConfig
from raystt.interleaving.rules import Interleaving

LLAMA = PUBLISHED["meta-llama/Llama-3.2-1B"]
PAIR = Lengths(
    source_words=10.0, target_words=10.0, source_units=200.0, target_units=100.0, tokens_a_word=1.5
)
TEN = np.array([10], np.int64)
PAIRS = {("es", "train"): 12, ("es", "dev"): 4, ("es", "test"): None}


def run(tmp_path: Path, **changes: Any) -> RunConfig:
    data = tiny_run(tmp_path).model_dump(mode="json", by_alias=True)
    for section, values in changes.items():
        data[section] = {**data[section], **values} if section != "schedule" else values
    return RunConfig.model_validate(data)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_what_transformers_counts(tmp_path: Path, tied: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=100, hidden_size=48, intermediate_size=80, num_hidden_layers=3,
        num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "lm")
    found = base_model(run(tmp_path, model={"base": str(tmp_path / "lm")}), None)
    assert found is not None and found.basis.startswith("config.json of ")
    assert found.parameters == sum(p.numel() for p in model.parameters())


def test_published_sizes_and_what_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert LLAMA.parameters == 1_235_814_400
    named = run(tmp_path, model={"base": "meta-llama/Llama-3.2-1B"})
    assert base_model(named, None) == LLAMA
    unknown = run(tmp_path, model={"base": "someone/model@main"})
    assert base_model(unknown, None) is None
    assert estimate(unknown, None, {"es": PAIR}, TEN, PAIRS) is None

    snapshot = tmp_path / "hub" / "models--someone--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1,
             "intermediate_size": 16, "vocab_size": 10}  # fmt: skip
    (snapshot / "config.json").write_text(json.dumps(sizes))
    found = base_model(unknown, None)
    assert found is not None and found.kv == 8 and found.parameters == 640 + 24 + 160


@pytest.mark.parametrize(
    ("model", "dense", "attention"),
    [
        ({}, 6, 3),
        ({"gradient_checkpointing": True}, 8, 4),
        ({"lora": {"rank": 4}}, 4, 3),
    ],
)
def test_training_operations_by_hand(
    tmp_path: Path, model: dict[str, Any], dense: int, attention: int
) -> None:
    speech = run(tmp_path, model=model, schedule={"shape": "constant", "initial": 0.0})
    tokens = 200 + 100 + 3
    matrices = LLAMA.parameters - 33 * 2048  # all but the norms; the table is the head too
    expected = dense * matrices * tokens + attention * 2 * 16 * 2048 * tokens**2
    found = training_seconds(LLAMA, speech, PAIR, TEN, CPU, bf16=False)
    assert found == pytest.approx(6 * 4 * expected / 45e9)  # 6 steps of 4
    tiny = speech.model_copy(
        update={"training": speech.training.model_copy(update={"batch_utterances": 1})}
    )  # two passes back and an update, of 25 ms at least
    assert training_seconds(LLAMA, tiny, PAIR, TEN, A100, bf16=True) == 4 * 6 * 0.025
    large = run(tmp_path, model=model, schedule={"shape": "constant", "initial": 0.0},
                training={"batch_utterances": 400})  # fmt: skip
    found = training_seconds(LLAMA, large, PAIR, TEN, A100, bf16=True)
    assert found == pytest.approx(6 * 400 * expected / (312e12 * 0.35))


def test_text_makes_sequences_shorter_and_masks_do_not(tmp_path: Path) -> None:
    interleaving = Interleaving(rule="independent")
    assert PAIR.tokens(interleaving, 0.5) == 100 + 50 + 0.5 * 2 * 15 + 3
    source = Interleaving(side="source", format="chain_of_thought")
    assert PAIR.tokens(source, 1.0) == 15 + 100 + 30 + 5
    assert PAIR.generated(source) == 100 + 30 + 3
    mask = Interleaving(replacement="mask")
    assert PAIR.tokens(mask, 1.0) == PAIR.tokens(mask, 0.0) == 303
    half = run(tmp_path, interleaving={"rule": "independent"},
               schedule={"shape": "constant", "initial": 0.5})  # fmt: skip
    speech = run(tmp_path, schedule={"shape": "constant", "initial": 0.0})
    seconds = [training_seconds(LLAMA, r, PAIR, TEN, CPU, bf16=False) for r in (half, speech)]
    assert seconds[0] / seconds[1] == pytest.approx(168 / 303, rel=0.01)


@pytest.mark.parametrize(
    ("words", "mean", "expected"),
    [  # nominal 0.9, 0.8, ... 0.1
        (6, 3.0, {0.9: 1.0, 0.8: 0.89, 0.7: 0.89, 0.6: 0.78, 0.5: 0.78, 0.4: 0.66, 0.3: 0.55,
                  0.2: 0.55, 0.1: 0.46}),
        (10, 3.0, {0.9: 1.0, 0.8: 0.93, 0.7: 0.86, 0.6: 0.78, 0.5: 0.69, 0.4: 0.61, 0.3: 0.52,
                   0.2: 0.44, 0.1: 0.37}),
        (15, 1.0, {0.9: 0.94, 0.7: 0.75, 0.5: 0.56, 0.3: 0.37, 0.1: 0.18}),
        (15, 10.0, {0.9: 0.96, 0.7: 0.84, 0.5: 0.71, 0.3: 0.59, 0.1: 0.50}),
    ],
)  # fmt: skip
def test_the_achieved_ratio_overshoots(
    words: int, mean: float, expected: dict[float, float]
) -> None:
    given = Interleaving(rule="poisson", span_mean=mean)
    found = achieved(given, np.array([words], np.int64), list(expected))
    assert found == pytest.approx(list(expected.values()), abs=0.015)
    assert achieved(given, np.array([words], np.int64), [0.0]) == (0.0,)


@pytest.mark.parametrize(
    ("stage", "workers", "weights", "gradients", "adam"),
    [(0, 4, 2, 2, 12), (1, 4, 2, 2, 3), (2, 4, 2, 0.5, 3), (3, 4, 0.5, 0.5, 3), (2, 1, 2, 2, 12)],
)
def test_memory_of_mixed_precision_by_stage(
    tmp_path: Path, stage: int, workers: int, weights: float, gradients: float, adam: float
) -> None:
    given = run(
        tmp_path, training={"zero_stage": stage}, resources={"workers_per_trainer": workers}
    )
    found = trainer_memory(LLAMA, given, PAIR, new=0, bf16=True)
    size = LLAMA.parameters
    assert found["weights"] == weights * size
    assert found["gradients"] == gradients * size
    assert found["Adam"] == adam * size
    plain = trainer_memory(LLAMA, run(tmp_path), PAIR, new=0, bf16=False)
    assert sum(plain[name] for name in ("weights", "gradients", "Adam")) == 16 * size


def test_adapters_and_checkpointing_save_memory(tmp_path: Path) -> None:
    small = Model("", layers=2, hidden=8, attention=8, kv=4, feed_forward=16, vocabulary=10,
                  tied=True)  # fmt: skip
    shapes = [(8, 8), (8, 4), (8, 4), (8, 8), (8, 16), (8, 16), (16, 8)]
    assert small.matrices == 2 * sum(a * b for a, b in shapes) + 10 * 8
    adapted = run(tmp_path, model={"lora": {"rank": 3}})
    assert small.trained(adapted, 5) == 2 * 3 * sum(a + b for a, b in shapes) + 5 * 8
    full = trainer_memory(LLAMA, run(tmp_path), PAIR, new=100, bf16=True)
    lora = trainer_memory(
        LLAMA, run(tmp_path, model={"lora": {"rank": 4}}), PAIR, new=100, bf16=True
    )
    assert lora["weights"] == full["weights"] and lora["Adam"] < full["Adam"] / 100
    spared = run(tmp_path, model={"gradient_checkpointing": True})
    less = trainer_memory(LLAMA, spared, PAIR, new=100, bf16=True)
    assert less["activations"] < full["activations"] / 5
    # 303 tokens, of which the target units and </s> have a loss; bf16 and three times fp32
    assert full["logits"] == pytest.approx(4096 * 101 / 303 * 128256 * 14)


def test_a_step_of_generation_is_bound_by_launching(tmp_path: Path) -> None:
    given = run(tmp_path, evaluation={"batch": 10, "max_new_tokens": 50})
    heard = evaluation_seconds(LLAMA, given, PAIR, 20, A100)
    listened = run(tmp_path, evaluation={"batch": 10, "max_new_tokens": 50, "asr": "whisper"})
    seconds = evaluation_seconds(LLAMA, listened, PAIR, 20, A100)
    assert heard - seconds == pytest.approx(20 * 0.1)  # pocketsphinx is known, whisper is not
    prompts = 20 * 2 * (LLAMA.parameters - 33 * 2048) * 202 / (19.5e12 * 0.35)
    assert seconds == pytest.approx(prompts + 2 * 50 * 0.025)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    given = run(
        tmp_path, model={"base": "meta-llama/Llama-3.2-1B"},
        training={"micro_batch_tokens": 65536}, resources={"gpus_per_worker": 1},
    )  # fmt: skip
    cost = estimate(given, None, {"es": PAIR}, TEN, PAIRS)
    assert cost is not None
    ((process, need, limit, fix),) = cost.excess()
    assert (process, limit) == ("trainer", 80e9) and need > limit
    assert "lower training.micro_batch_tokens" in fix


def test_checkpoints_take_room_of_weights_and_optimiser(tmp_path: Path) -> None:
    model, resources = {"base": "meta-llama/Llama-3.2-1B"}, {"gpus_per_worker": 1, "trainers": 2}
    for every, copies in ((None, 0), (100, 3)):
        training = {"checkpoint_every": every, "precision": "bf16"}
        given = run(tmp_path, model=model, training=training, resources=resources)
        cost = estimate(given, None, {"es": PAIR}, TEN, PAIRS)
        assert cost is not None
        assert cost.disk["checkpoints"] == copies * 2 * 14 * cost.parameters


def test_features_take_room_until_the_corpus_is_prepared(tmp_path: Path) -> None:
    given = run(tmp_path, model={"base": "meta-llama/Llama-3.2-1B"})
    (tmp_path / "config.json").write_text('{"hidden_size": 96}')

    def features(**units: Any) -> float:
        corpus = given.corpus.model_copy(
            update={"units": given.corpus.units.model_copy(update={"sample": 50, **units})}
        )
        cost = estimate(given.model_copy(update={"corpus": corpus}), None, {"es": PAIR}, TEN, PAIRS)
        assert cost is not None
        return cost.disk["features"]

    assert features(encoder="mfcc", deduplicate=False) == 4 * 40 * 300 * 50
    # Of five frames three are left where equal ones are merged.
    assert features(encoder=str(tmp_path), deduplicate=True) == pytest.approx(4 * 96 * 500 * 50)
    assert features(codebook="a.safetensors") == 0.0


def test_models_take_the_room_of_those_that_are_kept(tmp_path: Path) -> None:
    """Two references, two that lead, two in the making; or all, with two fresh seeds of four."""
    confirm = {"top": 2, "seeds": 2}
    search = tiny_search(tmp_path, trials=5, references=["none", "paper"], confirm=confirm)
    pairs = {("es", split): 10 for split in ("train", "dev", "test")}
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1,
             "intermediate_size": 16, "vocab_size": 10}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    base = search.base.model_copy(
        update={"model": search.base.model.model_copy(update={"base": str(tmp_path)})}
    )
    for keep, models in (("best", 2 + 2 + 2), ("fixed", 2 + 2 + 2), ("all", 5 + 2 * 4)):
        given = search.model_copy(update={"keep": keep, "base": base})
        cost = estimate(given, None, {"es": PAIR}, TEN, pairs)
        assert cost is not None
        assert cost.disk["models"] == models * 4 * cost.parameters


def test_nothing_loops_over_steps_or_trials(tmp_path: Path) -> None:
    given = tiny_search(tmp_path).model_copy(update={"trials": 10**12})
    cost = estimate(given, None, dict.fromkeys(given.languages, PAIR), TEN, {
        (language, split): 10 for language in given.languages for split in ("train", "dev", "test")
    })  # fmt: skip
    assert cost is not None and cost.days > 1e5
    speech = run(tmp_path, training={"steps": 10**7})
    assert training_seconds(LLAMA, speech, PAIR, TEN, CPU, bf16=False) > 1e7


def test_the_size_of_a_recogniser_is_read_where_its_config_is(tmp_path: Path) -> None:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        d_model=64, encoder_layers=4, decoder_layers=4, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=256, decoder_ffn_dim=256, vocab_size=51865,
    )  # fmt: skip
    config.save_pretrained(tmp_path / "whisper")
    model = WhisperForConditionalGeneration(config)
    given = run(tmp_path, evaluation={"asr": "whisper", "asr_model": str(tmp_path / "whisper")})
    found, basis = recogniser(given.evaluation)
    assert found == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.05)
    assert basis == str(tmp_path / "whisper")
    assumed, basis = recogniser(run(tmp_path, evaluation={"asr": "whisper"}).evaluation)
    assert assumed == 1.54e9 and basis is not None and "assumed" in basis
    small = {"asr": "whisper", "asr_model": "openai/whisper-small@abc"}
    assert recogniser(run(tmp_path, evaluation=small).evaluation)[0] == 244e6
    assert recogniser(run(tmp_path).evaluation) == (0.0, None)


def test_units_a_second_are_those_of_the_encoder(tmp_path: Path) -> None:
    from transformers import Wav2Vec2Config

    Wav2Vec2Config(conv_stride=(5, 2, 2, 2, 2, 2, 4)).save_pretrained(tmp_path / "w2v")
    recorded = run(tmp_path).corpus.model_copy(update={"reader": "cvss"})

    def of(encoder: str) -> tuple[float, str]:
        units = recorded.units.model_copy(update={"encoder": encoder, "deduplicate": False})
        corpus = recorded.model_copy(update={"units": units})
        return lengths.of(corpus, None).source_units, lengths.basis(corpus, counted=False)

    assert of("mfcc")[0] == pytest.approx(5 / 0.06) and "16.7 units/s" in of("mfcc")[1]
    assert of("mfcc_20ms")[0] == pytest.approx(250) and "50 units/s" in of("mfcc_20ms")[1]
    assert of(str(tmp_path / "w2v"))[0] == pytest.approx(5 / 0.04)
    assert of("someone/encoder")[0] == 250 and "50 units/s (assumed)" in of("someone/encoder")[1]
