"""The vocoder fitted in a real worker group of Ray Train."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from raystt.config import ResourcesConfig
from raystt.config.corpus import VocoderConfig
from raystt.files import write_atomic
from raystt.preparation.files import WORK
from raystt.preparation.fit_vocoder import fit_vocoder
from raystt.preparation.unit_vocoder import Settings, train_vocoder
from raystt.speech.audio import write_flac
from raystt.vocoder.conv import ConvVocoder

pytestmark = pytest.mark.slow

CLUSTERS = 10
RESOURCES = ResourcesConfig(cpus=2, trainers=1, cpus_per_encoder=0.5)
Files = list[tuple[np.ndarray, np.ndarray, str]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("audio")
    random = np.random.default_rng(0)
    made: Files = []
    for index in range(4):
        units = random.integers(0, CLUSTERS, 8)
        durations = random.integers(1, 4, 8)
        waveform = 0.1 * random.standard_normal(durations.sum() * 960).astype(np.float32)
        write_flac(folder / f"{index}.flac", waveform)
        made.append((units, durations, str(folder / f"{index}.flac")))
    return made


def fit(files: Files, out: Path, workers: int, steps: int = 12) -> ConvVocoder:
    progress = out.parent / "progress.json"
    fit_vocoder(
        VocoderConfig(steps=steps),
        files,
        out,
        RESOURCES.model_copy(update={"encoders": workers}),
        clusters=CLUSTERS,
        frame_seconds=0.06,
        seed=3,
        on_progress=lambda done, total: write_atomic(progress, json.dumps([done, total])),
    )
    return ConvVocoder.load(out)


@pytest.mark.usefixtures("ray_local")
def test_two_workers_fit_what_the_plain_loop_does(files: Files, tmp_path: Path) -> None:
    found = fit(files, tmp_path / "vocoder", 2, steps=250)._tensors()
    # Four sentences are learnt in three steps each, whatever is asked for.
    asked = train_vocoder(files, Settings(CLUSTERS, seed=3, steps=12))._tensors()
    start = train_vocoder(files, Settings(CLUSTERS, seed=3, steps=1))._tensors()
    assert found.keys() == asked.keys()
    for name, value in asked.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=5e-3, msg=name)
    # They did learn: what is compared is not the start.
    assert (asked["output.weight"] - start["output.weight"]).abs().max() > 1e-2
    assert json.loads((tmp_path / "progress.json").read_text()) == [12, 12]
    left = sorted(path.name for path in tmp_path.iterdir() if path.name != WORK)
    assert left == ["progress.json", "vocoder"]
    assert not [*tmp_path.joinpath(WORK).glob("*")]
