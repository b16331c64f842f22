"""K-means over the features of a sample, on Ray: Lloyd's algorithm from a k-means++ start.

Features lie in files. A task adds up the frames of its files by nearest centroid; the driver adds
up the tasks in a fixed order, so that the codebook is the same on every cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from raystt.config import CorpusConfig
from raystt.errors import PrepareError
from raystt.preparation.rows import encoder_name
from raystt.speech import MFCC
from raystt.speech.units import Codebook, nearest

ITERATIONS = 30
_FILES_A_TASK = 4
_START_FRAMES = 40_000  # frames that the start is drawn from: k-means++ reads them once a cluster
_STILL = 1e-5  # relative gain of an iteration below which it is over
_CHUNK = 16384  # frames that are held in double precision at once


def fit_codebook(
    path: Path,
    files: Sequence[tuple[Path, str]],
    config: CorpusConfig,
    clusters: int,
    *,
    on_iteration: Callable[[int, int], None],
) -> None:
    """Fit a codebook of the config's encoder to its features and write it; see `cluster`."""
    # MFCC are of different scales; a network's features are taken as they are, as is usual.
    standardise = config.units.encoder in MFCC
    fitted = cluster(
        files, clusters, seed=config.seed, standardise=standardise, on_iteration=on_iteration
    )
    Codebook(*fitted, encoder=encoder_name(config)).save(path)


def cluster(
    files: Sequence[tuple[Path, str]],
    clusters: int,
    *,
    seed: int,
    standardise: bool,
    on_iteration: Callable[[int, int], None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cluster the rows of float32 [frames, dim] arrays in .npz files; Ray must be up.

    Args:
        files: (file, name of the array in it).
        clusters: number of centroids.
        seed: of the start.
        standardise: whether to give all dimensions mean 0 and deviation 1 first.
        on_iteration: told (iteration, iterations).

    Returns:
        Mean [dim], scale [dim] and centroids [clusters, dim] (of standardised frames), float32.

    Raises:
        PrepareError: fewer frames than clusters.
    """
    import ray
    from sklearn.cluster import kmeans_plusplus
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    groups = [files[i : i + _FILES_A_TASK] for i in range(0, len(files), _FILES_A_TASK)]
    look = ray.remote(num_cpus=1, name="k-means: look")(_moments)
    add = ray.remote(num_cpus=1, name="k-means: assign")(_sums)
    share = -(-_START_FRAMES // len(groups))
    seen = ray.get([look.remote(group, share, seed + i) for i, group in enumerate(groups)])
    count = sum(part[0] for part in seen)
    if count < clusters:
        raise PrepareError(
            f"corpus.units: {clusters} clusters need at least as many frames of audio, the sample "
            f"has {count}; ask for fewer clusters, or raise corpus.units.sample"
        )
    mean = sum(part[1] for part in seen) / count
    variance = sum(part[2] for part in seen) / count - mean**2
    scale = np.sqrt(np.maximum(variance, 0)) + 1e-5
    if not standardise:
        mean, scale = np.zeros_like(mean), np.ones_like(scale)
    mean, scale = mean.astype(np.float32), scale.astype(np.float32)
    start = (np.concatenate([part[3] for part in seen]) - mean) / scale
    with threadpool_limits(1):  # several threads add up in another order
        centroids, _ = kmeans_plusplus(start, clusters, random_state=seed)
    before = np.inf
    for iteration in range(1, ITERATIONS + 1):
        handle = ray.put((centroids, mean, scale))
        sums = ray.get([add.remote(group, handle) for group in groups])
        totals = sum(part[0] for part in sums)
        counts = sum(part[1] for part in sums)
        distance = float(sum(part[2] for part in sums))
        # A centroid that nothing is nearest to stays where it is.
        filled = counts > 0
        centroids[filled] = (totals[filled] / counts[filled, None]).astype(np.float32)
        on_iteration(iteration, ITERATIONS)
        if before - distance <= _STILL * distance:
            break
        before = distance
    return mean, scale, centroids.astype(np.float32)


def _moments(
    files: Sequence[tuple[Path, str]], share: int, seed: int
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Return frames, their sum and sum of squares [dim], and a sample of `share` of them."""
    frames = _read(files)
    squares = np.einsum("ij,ij->j", frames, frames, dtype=np.float64)
    chosen = np.random.default_rng(seed).permutation(len(frames))[:share]
    return len(frames), frames.sum(axis=0, dtype=np.float64), squares, frames[np.sort(chosen)]


def _sums(
    files: Sequence[tuple[Path, str]], model: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return sums [clusters, dim] and counts [clusters] by nearest centroid, and the distance."""
    from threadpoolctl import threadpool_limits

    centroids, mean, scale = model
    totals = np.zeros(centroids.shape, np.float64)
    counts = np.zeros(len(centroids), np.int64)
    distance = 0.0
    with threadpool_limits(1):
        frames = (_read(files) - mean) / scale
        for start in range(0, len(frames), _CHUNK):
            chunk = frames[start : start + _CHUNK]
            found = nearest(chunk, centroids)
            distance += float(((chunk - centroids[found]) ** 2).sum(dtype=np.float64))
            order = np.argsort(found, kind="stable")
            present, first = np.unique(found[order], return_index=True)
            totals[present] += np.add.reduceat(chunk[order].astype(np.float64), first, axis=0)
            counts += np.bincount(found, minlength=len(centroids))
    return totals, counts, distance


def _read(files: Sequence[tuple[Path, str]]) -> np.ndarray:
    parts = []
    for path, name in files:
        with np.load(path) as file:
            parts.append(file[name])
    return np.concatenate(parts)
