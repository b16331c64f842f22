"""Speech units: frame features, a k-means codebook, and run-length deduplication.

A unit encoder turns a waveform into one cluster index a frame. The encoder `mfcc` needs no trained
network: MFCC and their deltas, averaged over 60 ms, and k-means.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import safetensors
import torch
from safetensors.numpy import save
from torchaudio.functional import compute_deltas
from torchaudio.transforms import MFCC

from raystt.speech import SAMPLE_RATE

FRAME_SECONDS = 0.06
"""What one unit of duration 1 lasts."""

_HOP = 320  # samples; 20 ms
_POOL = 3  # MFCC frames averaged into one unit frame
_WINDOW = 800  # samples; 50 ms
_CEPSTRA = 20
_FRAME = _HOP * _POOL


class UnitError(ValueError):
    """A codebook that cannot be fitted or read; the text names place and fix."""


class Encoder(Protocol):
    """What a unit encoder must offer (see `UnitEncoder` for the meaning of each member)."""

    frame_seconds: float

    @property
    def clusters(self) -> int: ...

    def encode(self, waveform: np.ndarray) -> np.ndarray: ...

    def save(self, path: Path | str) -> None: ...


class UnitEncoder:
    """The encoder `mfcc`: nearest centroid of pooled, standardised MFCC.

    Attributes:
        name: registry name.
        frame_seconds: length of a frame.
        mean, scale: float32 [features], standardisation of the features.
        centroids: float32 [clusters, features], in standardised space.
    """

    name = "mfcc"
    frame_seconds = FRAME_SECONDS

    def __init__(self, mean: np.ndarray, scale: np.ndarray, centroids: np.ndarray) -> None:
        self.mean = mean
        self.scale = scale
        self.centroids = centroids

    @property
    def clusters(self) -> int:
        """Number of clusters; `encode` gives indices below it."""
        return len(self.centroids)

    @classmethod
    def fit(cls, waveforms: Iterable[np.ndarray], clusters: int, seed: int) -> UnitEncoder:
        """Fit a codebook to waveforms (float32 [samples], 16 kHz).

        Raises:
            UnitError: there are fewer frames than clusters.
        """
        found = [features(waveform) for waveform in waveforms]
        return cls.fit_features(np.concatenate(found or [_no_features()]), clusters, seed)

    @classmethod
    def fit_features(cls, frames: np.ndarray, clusters: int, seed: int) -> UnitEncoder:
        """Fit a codebook to features, float32 [frames, features]; see `fit`."""
        from sklearn.cluster import MiniBatchKMeans
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        if len(frames) < clusters:
            raise UnitError(
                f"{clusters} clusters need at least as many frames of audio, there are "
                f"{len(frames)}; ask for fewer units or give more training sentences"
            )
        mean = frames.mean(axis=0)
        scale = frames.std(axis=0) + 1e-5
        model = MiniBatchKMeans(
            clusters, random_state=seed, n_init=3, batch_size=4096, max_iter=100
        )
        # Several threads add up in another order, and the codebook would differ in its last bits.
        with threadpool_limits(1):
            model.fit((frames - mean) / scale)
        return cls(mean, scale, model.cluster_centers_.astype(np.float32))

    def encode(self, waveform: np.ndarray) -> np.ndarray:
        """Encode float32 [samples] at 16 kHz to cluster indices, int64 [frames]."""
        return self.assign(features(waveform))

    def assign(self, frames: np.ndarray) -> np.ndarray:
        """Return the nearest centroid of each frame: [frames, features] -> int64 [frames]."""
        standard = (frames - self.mean) / self.scale
        # |x - c|^2 without |x|^2, which is the same for every centroid.
        distance = (self.centroids**2).sum(axis=1) - 2.0 * (standard @ self.centroids.T)
        nearest: np.ndarray = distance.argmin(axis=1)
        return nearest.astype(np.int64, copy=False)

    def save(self, path: Path | str) -> None:
        """Write the codebook to a safetensors file, atomically."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"mean": self.mean, "scale": self.scale, "centroids": self.centroids}
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(save(tensors, metadata={"encoder": self.name}))
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path | str) -> UnitEncoder:
        """Read a codebook.

        Raises:
            UnitError: the file is missing or not a codebook of this encoder.
        """
        tensors = _read(path)
        try:
            return cls(tensors["mean"], tensors["scale"], tensors["centroids"])
        except KeyError as error:
            raise UnitError(f"{path}: no tensor {error} in this codebook; prepare again") from None


ENCODERS: dict[str, type[UnitEncoder]] = {UnitEncoder.name: UnitEncoder}


def load(path: Path | str) -> UnitEncoder:
    """Read a codebook of whichever encoder wrote it.

    Raises:
        UnitError: the file is missing, or its encoder is unknown.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            name = (file.metadata() or {}).get("encoder")
    except (OSError, safetensors.SafetensorError) as error:
        raise UnitError(f"{path}: not a readable codebook ({error}); prepare again") from error
    if name not in ENCODERS:
        raise UnitError(f"{path}: unit encoder {name!r} is unknown; use {', '.join(ENCODERS)}")
    return ENCODERS[name].load(path)


def deduplicate(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge runs of equal units: [frames] -> units int64 [runs], durations int64 [runs] frames.

    >>> deduplicate(np.array([7, 7, 7, 2, 7]))
    (array([7, 2, 7]), array([3, 1, 1]))
    """
    frames = np.asarray(frames, dtype=np.int64)
    starts = np.flatnonzero(np.append(True, frames[1:] != frames[:-1])[: len(frames)])
    return frames[starts], np.diff(np.append(starts, len(frames)))


def features(waveform: np.ndarray) -> np.ndarray:
    """Compute pooled MFCC and deltas: float32 [samples] -> float32 [frames, 40].

    A frame is 60 ms; what is left at the end counts as a frame from 30 ms on.
    """
    count = round(len(waveform) / _FRAME)
    if count == 0:
        return _no_features()
    padded = np.zeros(max(count * _FRAME, 2 * _WINDOW), dtype=np.float32)
    kept = min(len(waveform), len(padded))
    padded[:kept] = waveform[:kept]
    cepstra = _mfcc()(torch.from_numpy(padded))[:, : count * _POOL]
    both = torch.cat([cepstra, compute_deltas(cepstra)])
    return both.reshape(2 * _CEPSTRA, count, _POOL).mean(dim=2).T.contiguous().numpy()


def _no_features() -> np.ndarray:
    return np.zeros((0, 2 * _CEPSTRA), dtype=np.float32)


@cache
def _mfcc() -> MFCC:
    return MFCC(
        SAMPLE_RATE,
        _CEPSTRA,
        melkwargs={"n_fft": 1024, "win_length": _WINDOW, "hop_length": _HOP, "n_mels": 40},
    )


def _read(path: Path | str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UnitError(f"{path}: not a readable codebook ({error}); prepare again") from error
