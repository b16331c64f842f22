"""Fine-tuning of the unit encoder: what it writes, what a kill costs, and Ray Train around it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import load_file
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

from raystt.config import FinetuneConfig, QualityConfig, ResourcesConfig
from raystt.errors import BadInput, PrepareError
from raystt.preparation.fit_encoder import FinetuneJob, fit_encoder, outcome, train
from raystt.readers.grammar import pairs
from raystt.speech.audio import write_flac
from raystt.speech.ctc import CtcAligner
from raystt.speech.encoders import encoder
from raystt.speech.tts import EspeakSynthesizer, Voice

CPU = torch.device("cpu")
FINETUNE = FinetuneConfig(steps=6, batch_seconds=6.0, learning_rate=5e-3, warmup=0.2)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained encoder of the paper's architecture in the hub's layout."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.set_num_threads(1)
    torch.manual_seed(1)
    config = Wav2Vec2BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        output_hidden_size=32,
        conv_depthwise_kernel_size=15,
        # With dropout: a resumed run must draw the same.
        hidden_dropout=0.1,
        conformer_conv_dropout=0.0,
        attention_dropout=0.0,
    )
    Wav2Vec2BertModel(config).save_pretrained(folder)
    SeamlessM4TFeatureExtractor().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Twelve sentences of two languages, of which one says nothing and one is far too long."""
    folder = tmp_path_factory.mktemp("audio")
    found = []
    for voice, side in ((Voice("es"), "source"), (Voice("en-us", "f2"), "target")):
        synthesizer = EspeakSynthesizer(voice)
        for i, pair in enumerate(pairs("es", "train", 6, seed=1)):
            text = getattr(pair, side)
            path = folder / f"{side}{i}.flac"
            write_flac(path, synthesizer.speak(text).waveform)
            found.append((str(path), text))
    found[3] = (found[3][0], "...")
    found[8] = (found[8][0], "far too many letters " * 20)
    return found


def job(base: str, utterances: list[tuple[str, str]], out: Path, **changes) -> FinetuneJob:
    fields = {"seed": 1, "quality": QualityConfig(), "state_steps": 2} | changes
    return FinetuneJob(base, FINETUNE, tuple(utterances), out=out, **fields)


@pytest.mark.slow
def test_what_is_written_is_an_ordinary_model(
    base: str, utterances: list[tuple[str, str]], tmp_path: Path
) -> None:
    told: list[tuple[int, int, float]] = []
    out = tmp_path / "out"
    train(job(base, utterances, out, on_step=lambda *step: told.append(step)), CPU)
    assert [step[:2] for step in told] == [(i, 6) for i in range(1, 7)]
    assert told[-1][2] < told[0][2]

    report = json.loads((out / "finetune.json").read_text())
    assert report["steps"] == 6 and report["skipped"] == 2
    assert report["held_out"] == 1 and report["utterances"] == 9
    # Six steps from nothing: no speech is recognised, and the report does not hide it.
    assert report["cer_before"] > 0.5 and report["cer_after"] > 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    text = outcome(out)
    assert text.startswith("warning: encoder: character error rate")
    assert f"{report['cer_after']:.2f} on 1 held-out" in text and str(tmp_path) in text

    waveform = np.random.default_rng(1).standard_normal(16000, dtype=np.float32)
    unit_encoder = encoder(base, None, finetuned=out)
    plain = encoder(base, None)
    (after,), (before,) = unit_encoder.features([waveform]), plain.features([waveform])
    assert after.shape == before.shape and not np.allclose(after, before)
    (marks,) = CtcAligner(out, "en").words([waveform], ["the dog"])
    assert marks is not None and [word for word, _ in marks] == [0, 1]


def test_an_encoder_that_spells_is_no_warning(tmp_path: Path) -> None:
    report = {"cer_before": 1.0, "cer_after": 0.5, "held_out": 64}
    (tmp_path / "finetune.json").write_text(json.dumps(report))
    assert outcome(tmp_path).startswith("encoder: character error rate 0.50 on 64 held-out")


@pytest.mark.slow
def test_a_killed_run_comes_to_the_same_weights(
    base: str, utterances: list[tuple[str, str]], tmp_path: Path
) -> None:
    def kill(step: int, steps: int, loss: float) -> None:
        if step == 5:
            raise Killed

    train(job(base, utterances, tmp_path / "whole"), CPU)
    with pytest.raises(Killed):
        train(job(base, utterances, tmp_path / "killed", on_step=kill), CPU)
    assert not (tmp_path / "killed").exists()
    resumed: list[int] = []
    again = job(
        base, utterances, tmp_path / "killed", on_step=lambda step, *_: resumed.append(step)
    )
    train(again, CPU)
    assert resumed == [5, 6]
    whole, killed = (
        load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed")
    )
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    rates = [
        {
            k: v
            for k, v in json.loads((tmp_path / n / "finetune.json").read_text()).items()
            if "cer" in k
        }
        for n in ("whole", "killed")
    ]
    assert rates[0] == rates[1]


@pytest.mark.slow
def test_the_state_of_another_job_is_not_continued(
    base: str, utterances: list[tuple[str, str]], tmp_path: Path
) -> None:
    def kill(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise Killed

    out, steps = tmp_path / "out", []
    with pytest.raises(Killed):
        train(job(base, utterances, out, on_step=kill), CPU)
    other = job(base, utterances[:-1], out, on_step=lambda step, *_: steps.append(step))
    train(other, CPU)
    assert steps[0] == 1


def test_what_cannot_be_trained_on_is_named(
    base: str, utterances: list[tuple[str, str]], tmp_path: Path
) -> None:
    with pytest.raises(PrepareError, match="1 of 2 transcribed utterances"):
        train(job(base, [utterances[0], utterances[3]], tmp_path / "out"), CPU)
    with pytest.raises(BadInput, match="nowhere"):
        train(job(str(tmp_path / "nowhere"), utterances, tmp_path / "out"), CPU)


RESOURCES = ResourcesConfig(
    cpus=2, trainers=1, encoders=2, cpus_per_encoder=0.5, evaluators=1,
    cpus_per_evaluator=0.25, data_cpus=0.5,
)  # fmt: skip


def test_two_workers_of_ray_train_fit_what_one_process_does(
    ray_local: str, base: str, utterances: list[tuple[str, str]], tmp_path: Path
) -> None:
    # No dropout: its random numbers are each rank's own.
    still = tmp_path / "still"
    settings = {"hidden_dropout": 0.0, "final_dropout": 0.0}
    Wav2Vec2BertModel.from_pretrained(base, **settings).save_pretrained(still)
    SeamlessM4TFeatureExtractor().save_pretrained(still)
    log = tmp_path / "log"

    def note(step: int, steps: int, loss: float) -> None:
        with log.open("a") as file:
            file.write(f"{step} {steps} {loss}\n")

    out = tmp_path / "group"
    fit_encoder(job(str(still), utterances, out, on_step=note), RESOURCES)
    told: list[float] = []
    alone_job = job(
        str(still), utterances, tmp_path / "alone", on_step=lambda *step: told.append(step[2])
    )
    train(alone_job, CPU)
    assert [line.split()[0] for line in log.read_text().splitlines()] == list("123456")
    losses = [float(line.split()[2]) for line in log.read_text().splitlines()]
    assert losses == pytest.approx(told, rel=1e-3)
    alone, group = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "group"))
    for name, tensor in alone.items():
        assert torch.allclose(group[name], tensor, atol=2e-3), name
    assert {path.name for path in tmp_path.iterdir()} == {"still", "log", "group", "alone"}


@pytest.mark.long
def test_a_task_with_a_group_of_one_fails_with_the_error_of_its_worker(
    ray_local: str, base: str, utterances: list[tuple[str, str]], tmp_path: Path
) -> None:
    one = RESOURCES.model_copy(update={"encoders": 1})
    few = [utterances[0], utterances[3]]

    def task() -> None:
        fit_encoder(job(base, few, tmp_path / "out"), one)

    with pytest.raises(PrepareError, match="1 of 2 transcribed utterances"):
        ray.get(ray.remote(num_cpus=0)(task).remote())
