"""K-means on Ray finds what is there, the same however the frames lie in files."""

import numpy as np
import pytest

from raystt.errors import PrepareError
from raystt.preparation import fit_units as kmeans

pytestmark = pytest.mark.usefixtures("ray_local")

CENTRES = np.array([[0, 0], [100, 0], [0, 1], [100, 1], [50, 5]], np.float32)


def files(folder, counts, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for number, count in enumerate(counts):
        which = rng.integers(0, len(CENTRES), count)
        frames = CENTRES[which] + rng.normal(0, 0.05, (count, 2)).astype(np.float32)
        path = folder / f"{number}.npz"
        np.savez(path, source=frames.astype(np.float32))
        made.append((path, "source"))
    return made


def test_clusters_are_found_and_repeat(tmp_path):
    made = files(tmp_path, [300, 200, 250, 100, 150, 50])
    told = []

    def cluster():
        return kmeans.cluster(
            made, 5, seed=1, standardise=True, on_iteration=lambda *step: told.append(step)
        )

    mean, scale, centroids = cluster()
    found = centroids * scale + mean
    distance = np.linalg.norm(found[:, None] - CENTRES[None], axis=2).min(axis=0)
    assert distance.max() < 0.1, "without standardisation the second dimension would not count"
    assert told[0] == (1, kmeans.ITERATIONS)
    for before, again in zip((mean, scale, centroids), cluster(), strict=True):
        assert np.array_equal(before, again)


def test_fewer_frames_than_clusters_are_refused(tmp_path):
    made = files(tmp_path, [3])
    with pytest.raises(PrepareError, match=r"4 clusters .* the sample has 3; .*units.sample"):
        kmeans.cluster(made, 4, seed=1, standardise=False, on_iteration=lambda *_: None)
