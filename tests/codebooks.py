"""Codebooks for tests, without Ray: scikit-learn's k-means over standardised frames."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from raystt.speech.units import Codebook


def fit_codebook(frames: np.ndarray, clusters: int, *, seed: int, encoder: str) -> Codebook:
    """Fit a codebook to float32 [frames, dimension]."""
    mean, scale = frames.mean(axis=0), frames.std(axis=0) + 1e-5
    model = MiniBatchKMeans(clusters, random_state=seed, n_init=3, batch_size=4096, max_iter=100)
    with threadpool_limits(1):
        model.fit((frames - mean) / scale)
    return Codebook(mean, scale, model.cluster_centers_.astype(np.float32), encoder)
