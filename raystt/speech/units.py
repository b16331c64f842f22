"""Speech units: a k-means codebook over the frames of a speech encoder, and deduplication.

An encoder (`raystt.speech.encoders`) turns a waveform into frames of features; a codebook turns
each frame into the index of its nearest cluster, its unit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import load_file, save

from raystt.errors import BadInput
from raystt.files import replacing

_CHUNK = 2**23
"""Distances held at a time: 32 MiB of float32."""


class UnitError(BadInput):
    """A codebook that cannot be read or used; the text names place and fix."""


class Codebook:
    """Nearest centroid of standardised frames.

    Attributes:
        mean, scale: float32 [dimension], standardisation of the frames.
        centroids: float32 [clusters, dimension], in standardised space.
        encoder: name of the encoder whose frames these are; "" where the file does not say.
    """

    def __init__(
        self, mean: np.ndarray, scale: np.ndarray, centroids: np.ndarray, encoder: str
    ) -> None:
        self.mean = mean
        self.scale = scale
        self.centroids = centroids
        self.encoder = encoder
        self._placed: tuple[Any, ...] = (mean, scale, centroids)

    @property
    def clusters(self) -> int:
        """Number of clusters; `assign` gives indices below it."""
        return len(self.centroids)

    def assign(self, frames: np.ndarray) -> np.ndarray:
        """Return the nearest centroid of each frame: [frames, dimension] -> int64 [frames].

        Raises:
            UnitError: the frames have another dimension than the centroids.
        """
        dimension = self.centroids.shape[1]
        if frames.ndim != 2 or frames.shape[1] != dimension:
            raise UnitError(
                f"frames of shape {list(frames.shape)} do not fit a codebook of {dimension} "
                f"dimensions (of encoder {self.encoder or 'unknown'!r}); use the encoder and the "
                "layer it was made for"
            )
        there: Any = frames
        mean, scale, centroids = self._placed
        if centroids is not self.centroids:
            import torch

            there = torch.from_numpy(frames).to(centroids.device)
        return nearest((there - mean) / scale, centroids)

    def to(self, device: str) -> Codebook:
        """Let `assign` compute on a torch device.

        With 2048 clusters of 1024 dimensions a frame takes 4 million multiplications.
        """
        import torch

        arrays = (self.mean, self.scale, self.centroids)
        self._placed = tuple(torch.from_numpy(array).to(device) for array in arrays)
        return self

    def save(self, path: Path | str) -> None:
        """Write the codebook to a safetensors file, atomically."""
        tensors = {"mean": self.mean, "scale": self.scale, "centroids": self.centroids}
        with replacing(path) as temporary:
            temporary.write_bytes(save(tensors, metadata={"encoder": self.encoder}))

    @classmethod
    def load(cls, path: Path | str) -> Codebook:
        """Read a codebook: a safetensors file of `save`, or bare centroids.

        Bare centroids [clusters, dimension] come as .npy (`cluster_centers_` of a k-means of
        scikit-learn, which is what fairseq's tools fit) or as the only tensor, `centroids`, of a
        safetensors file; they are taken to be in the space of the frames: mean 0 and scale 1.

        Raises:
            UnitError: the file is missing, is no codebook, or its tensors do not fit together.
        """
        tensors, encoder = _read(Path(path))
        if "centroids" not in tensors:
            raise UnitError(f"{path}: no tensor 'centroids' in this codebook; prepare again")
        centroids = tensors["centroids"]
        if centroids.ndim != 2 or not centroids.size or not np.isfinite(centroids).all():
            raise UnitError(
                f"{path}: centroids of shape {list(centroids.shape)} are not finite numbers "
                "[clusters, dimension]; save `cluster_centers_` of the k-means"
            )
        dimension = centroids.shape[1]
        if set(tensors) == {"centroids"}:
            tensors["mean"] = np.zeros(dimension)
            tensors["scale"] = np.ones(dimension)
        for name in ("mean", "scale"):
            if name not in tensors:
                raise UnitError(f"{path}: no tensor {name!r} in this codebook; prepare again")
            if tensors[name].shape != (dimension,):
                raise UnitError(
                    f"{path}: tensor {name!r} has shape {list(tensors[name].shape)}, the "
                    f"centroids have {dimension} dimensions; prepare again"
                )
        mean, scale, centroids = (
            np.ascontiguousarray(tensors[name], dtype=np.float32)
            for name in ("mean", "scale", "centroids")
        )
        return cls(mean, scale, centroids, encoder)


def nearest(frames: Any, centroids: Any) -> np.ndarray:
    """Return the nearest centroid of each frame, int64 [frames], in bounded memory.

    Args:
        frames: float32 [frames, dimension], in the space of the centroids; an array, or a tensor
            on any device.
        centroids: float32 [clusters, dimension], as `frames`.
    """
    # |x - c|^2 without |x|^2, which is the same for every centroid.
    squares = (centroids**2).sum(1)
    found = np.empty(len(frames), dtype=np.int64)
    step = max(1, _CHUNK // len(centroids))
    for start in range(0, len(frames), step):
        distances = squares - 2.0 * (frames[start : start + step] @ centroids.T)
        closest = distances.argmin(1)
        found[start : start + step] = closest if isinstance(closest, np.ndarray) else closest.cpu()
    return found


def deduplicate(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge runs of equal units: [frames] -> units int64 [runs], durations int64 [runs] frames.

    >>> deduplicate(np.array([7, 7, 7, 2, 7]))
    (array([7, 2, 7]), array([3, 1, 1]))
    """
    frames = np.asarray(frames, dtype=np.int64)
    starts = np.flatnonzero(np.append(True, frames[1:] != frames[:-1])[: len(frames)])
    return frames[starts], np.diff(np.append(starts, len(frames)))


def _read(path: Path) -> tuple[dict[str, np.ndarray], str]:
    try:
        if path.suffix == ".npy":
            return {"centroids": np.load(path, allow_pickle=False)}, ""
        with safetensors.safe_open(path, framework="numpy") as file:
            encoder = (file.metadata() or {}).get("encoder", "")
        return load_file(path), encoder
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise UnitError(
            f"{path}: not a readable codebook ({error}); prepare again, or give centroids "
            "[clusters, dimension] as .npy or .safetensors"
        ) from error
