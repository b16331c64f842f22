import tracemalloc

import numpy as np
import pytest
from codebooks import fit_codebook
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from raystt.errors import BadInput
from raystt.speech import units
from raystt.speech.units import Codebook, UnitError, deduplicate


def blobs(seed: int, count: int = 400, centres: int = 20, dimension: int = 6) -> np.ndarray:
    """Frames around `centres` points that lie far apart."""
    rng = np.random.default_rng(seed)
    points = np.random.default_rng(99).uniform(-50, 50, (centres, dimension))
    chosen = points[rng.integers(0, centres, count)]
    return (chosen + rng.standard_normal(chosen.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def codebook():
    return fit_codebook(blobs(0), 20, seed=1, encoder="some encoder, layer 3")


@given(st.lists(st.integers(0, 3)))
def test_deduplicate_is_undone_by_repeat(frames):
    found, durations = deduplicate(np.array(frames, dtype=np.int64))
    assert np.repeat(found, durations).tolist() == frames
    assert (durations >= 1).all()
    assert (found[1:] != found[:-1]).all()
    assert found.dtype == durations.dtype == np.int64


def test_clusters_are_found(codebook):
    frames = blobs(3)
    found = codebook.assign(frames)
    assert found.dtype == np.int64
    assert codebook.clusters == 20
    assert 0 <= found.min() <= found.max() < 20
    # Frames of one unit lie together: little of the variance is within units. Dealt out at random
    # they keep nearly all of it.
    assert within(frames, found) < 0.1 < 0.8 < within(frames, found[::-1])


def within(frames: np.ndarray, found: np.ndarray) -> float:
    """Return the share of the frames' variance that is about the means of their units."""
    means = np.stack([frames[found == unit].mean(axis=0) for unit in found])
    return float(((frames - means) ** 2).sum() / ((frames - frames.mean(axis=0)) ** 2).sum())


def test_the_nearest_centroid_is_taken(codebook):
    frames = blobs(11)
    standard = (frames - codebook.mean) / codebook.scale
    literal = [np.linalg.norm(codebook.centroids - frame, axis=1).argmin() for frame in standard]
    assert codebook.assign(frames).tolist() == literal
    assert codebook.assign(frames[:0]).shape == (0,)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_device_takes_the_same_centroid(codebook, tmp_path, device):
    codebook.save(tmp_path / "units.safetensors")
    frames = blobs(11)
    there = Codebook.load(tmp_path / "units.safetensors").to(device).assign(frames)
    assert there.dtype == np.int64 and there.tolist() == codebook.assign(frames).tolist()


def test_long_input_is_assigned_in_parts(codebook, monkeypatch):
    frames = blobs(12)
    whole = codebook.assign(frames)
    monkeypatch.setattr(units, "_CHUNK", 140)  # 7 frames at a time
    assert codebook.assign(frames).tolist() == whole.tolist()


def test_memory_does_not_grow_with_the_frames():
    rng = np.random.default_rng(5)
    centroids = rng.standard_normal((512, 8)).astype(np.float32)
    book = Codebook(np.zeros(8, np.float32), np.ones(8, np.float32), centroids, "")
    frames = rng.standard_normal((150_000, 8)).astype(np.float32)  # all distances: 300 MB
    tracemalloc.start()
    book.assign(frames)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 130e6


def test_a_codebook_comes_back_as_it_was_saved(codebook, tmp_path):
    codebook.save(tmp_path / "units" / "source.safetensors")
    back = Codebook.load(tmp_path / "units" / "source.safetensors")
    assert back.encoder == "some encoder, layer 3"
    assert back.assign(blobs(9)).tolist() == codebook.assign(blobs(9)).tolist()
    assert [path.name for path in (tmp_path / "units").iterdir()] == ["source.safetensors"]


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_bare_centroids_are_in_the_space_of_the_frames(tmp_path, suffix):
    path = tmp_path / f"km.{suffix}"
    centroids = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])  # float64, as scikit-learn's
    if suffix == "npy":
        np.save(path, centroids)
    else:
        save_file({"centroids": centroids}, path)
    book = Codebook.load(path)
    assert (book.encoder, book.clusters) == ("", 3)
    assert book.centroids.dtype == book.mean.dtype == book.scale.dtype == np.float32
    frames = np.array([[1.0, 6.0], [4.0, 1.0], [6.0, 1.0]], np.float32)
    assert book.assign(frames).tolist() == [2, 0, 1]


def test_its_errors_are_bad_input():
    assert issubclass(UnitError, BadInput)


def test_frames_of_another_encoder_are_refused(codebook):
    with pytest.raises(UnitError, match=r"\[4, 7\] do not fit a codebook of 6 .*'some encoder"):
        codebook.assign(np.zeros((4, 7), np.float32))


def test_unreadable_codebooks_are_refused_by_name(tmp_path):
    for name in ("absent.safetensors", "absent.npy"):
        with pytest.raises(UnitError, match=f"{name}: not a readable codebook"):
            Codebook.load(tmp_path / name)
    for name in ("junk.safetensors", "junk.npy"):
        (tmp_path / name).write_bytes(b"junk")
        with pytest.raises(UnitError, match=f"{name}: not a readable codebook"):
            Codebook.load(tmp_path / name)
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UnitError, match="pickle.npy: not a readable codebook"):
        Codebook.load(tmp_path / "pickle.npy")


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"mean": np.zeros(2)}, "no tensor 'centroids'"),
        ({"mean": np.zeros(2), "centroids": np.zeros((3, 2))}, "no tensor 'scale'"),
        (
            {"mean": np.zeros(3), "scale": np.ones(3), "centroids": np.zeros((3, 2))},
            r"'mean' has shape \[3\], the centroids have 2 dimensions",
        ),
        ({"centroids": np.zeros(3)}, r"shape \[3\]"),
        ({"centroids": np.full((3, 2), np.nan)}, "not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path, tensors, reason):
    save_file(tensors, tmp_path / "part.safetensors")
    with pytest.raises(UnitError, match=f"part.safetensors: .*{reason}"):
        Codebook.load(tmp_path / "part.safetensors")
