import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystt.speech import SAMPLE_RATE
from raystt.speech.units import (
    ENCODERS,
    FRAME_SECONDS,
    UnitEncoder,
    UnitError,
    deduplicate,
    features,
    load,
)


def tones(seed: int, count: int = 6) -> np.ndarray:
    """Half a second each of `count` harmonic tones of random pitch, with a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    parts = []
    for pitch in rng.uniform(100, 400, count):
        parts.append(sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6)) * 0.1)
    wave = np.concatenate(parts)
    return (wave + 1e-3 * rng.standard_normal(len(wave))).astype(np.float32)


@pytest.fixture(scope="module")
def encoder():
    return UnitEncoder.fit([tones(seed) for seed in range(8)], 20, seed=1)


@given(st.lists(st.integers(0, 3)))
def test_deduplicate_is_undone_by_repeat(frames):
    units, durations = deduplicate(np.array(frames, dtype=np.int64))
    assert np.repeat(units, durations).tolist() == frames
    assert (durations >= 1).all()
    assert (units[1:] != units[:-1]).all()
    assert units.dtype == durations.dtype == np.int64


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (100, 0), (479, 0), (481, 1), (960, 1), (16000, 17)]
)
def test_frames_are_60_ms(samples, frames):
    found = features(tones(0)[:samples])
    assert found.shape == (frames, 40)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert FRAME_SECONDS * SAMPLE_RATE == 960


def test_a_tone_keeps_its_unit(encoder):
    steady = encoder.encode(tones(3, count=1))
    assert steady.dtype == np.int64
    assert steady.min() >= 0
    assert steady.max() < encoder.clusters == 20
    assert len(set(steady[1:-1].tolist())) <= 2
    assert len(set(encoder.encode(tones(3)).tolist())) > 3


def test_the_nearest_centroid_is_taken(encoder):
    frames = features(tones(11))
    standard = (frames - encoder.mean) / encoder.scale
    literal = [np.linalg.norm(encoder.centroids - frame, axis=1).argmin() for frame in standard]
    assert encoder.assign(frames).tolist() == literal


def test_fitting_is_deterministic(encoder):
    again = UnitEncoder.fit([tones(seed) for seed in range(8)], 20, seed=1)
    other = UnitEncoder.fit([tones(seed) for seed in range(8)], 20, seed=2)
    assert again.centroids.tobytes() == encoder.centroids.tobytes()
    assert other.centroids.tobytes() != encoder.centroids.tobytes()


def test_a_codebook_comes_back_as_it_was_saved(encoder, tmp_path):
    encoder.save(tmp_path / "units" / "source.safetensors")
    back = load(tmp_path / "units" / "source.safetensors")
    assert isinstance(back, ENCODERS["mfcc"])
    assert back.encode(tones(9)).tolist() == encoder.encode(tones(9)).tolist()
    assert [path.name for path in (tmp_path / "units").iterdir()] == ["source.safetensors"]


def test_too_little_audio_is_refused():
    with pytest.raises(UnitError, match="20 clusters need .* there are 8; ask for fewer units"):
        UnitEncoder.fit([tones(0, count=1)], 20, seed=1)
    with pytest.raises(UnitError, match="there are 0"):
        UnitEncoder.fit([], 20, seed=1)


def test_unreadable_codebooks_are_refused_by_name(tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(UnitError, match="absent.safetensors: not a readable codebook"):
        load(tmp_path / "absent.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(UnitError, match="junk.safetensors: not a readable codebook"):
        load(tmp_path / "junk.safetensors")
    zeros = {"mean": np.zeros(2, np.float32)}
    save_file(zeros, tmp_path / "other.safetensors", metadata={"encoder": "hubert"})
    with pytest.raises(UnitError, match="encoder 'hubert' is unknown; use mfcc"):
        load(tmp_path / "other.safetensors")
    save_file(zeros, tmp_path / "part.safetensors", metadata={"encoder": "mfcc"})
    with pytest.raises(UnitError, match="part.safetensors: no tensor 'scale'"):
        load(tmp_path / "part.safetensors")
