"""What all recognisers share: their interface, what is worth listening to, and their names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from raystt.errors import BadInput
from raystt.hub import pinned
from raystt.recognition.protocols import AsrProtocol
from raystt.speech import SAMPLE_RATE

SHORTEST = 0.1
"""Seconds; shorter audio is transcribed as nothing."""

SILENCE = 3e-3
"""Loudest root mean square over 50 ms (full scale 1) of audio that holds no speech."""


class RecognizerError(BadInput):
    """A recogniser cannot be built, found or used; the message names the place and the fix."""


class Recognizer(Protocol):
    """Speech to the text that is scored, as a protocol has it."""

    @property
    def protocol(self) -> AsrProtocol:
        """The protocol that the recogniser belongs to."""
        ...

    @property
    def signature(self) -> str:
        """Name all that a transcript depends on besides the audio."""
        ...

    @property
    def normaliser(self) -> str:
        """Name what `normalise` does, for the signature of a score."""
        ...

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Transcribe float32 `[samples]` at 16 kHz each; a text depends on its audio alone.

        Audio that is empty, shorter than `SHORTEST` or silent gives "" and is not listened to.

        Raises:
            RecognizerError: a waveform is not one channel of finite samples.
        """
        ...

    def normalise(self, text: str) -> str:
        """Rewrite a hypothesis or a reference as the protocol does before it scores them."""
        ...


def audible(waveforms: Sequence[np.ndarray]) -> list[int]:
    """Return the indices of the waveforms that may hold speech.

    Raises:
        RecognizerError: a waveform is not one channel of finite samples.
    """
    kept = []
    for index, waveform in enumerate(waveforms):
        if waveform.ndim != 1 or not np.isfinite(waveform).all():
            raise RecognizerError(
                f"waveform {index} of shape {list(waveform.shape)} is not one channel of finite "
                "samples; pass mono float32 audio"
            )
        if len(waveform) >= SHORTEST * SAMPLE_RATE and _loudness(waveform) >= SILENCE:
            kept.append(index)
    return kept


def model_name(text: str, config: Any) -> str:
    """Name a pretrained model so that another model has another name.

    Args:
        text: A directory, NAME or NAME@REVISION.
        config: The loaded model's config, which knows the commit it came from.

    Returns:
        NAME@COMMIT of a model of the hub; the folder's name @ a hash of its files of a directory.
    """
    name, revision = pinned(text)
    folder = Path(name)
    if folder.is_dir():
        digest = hashlib.blake2b(digest_size=8)
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
        return f"{folder.resolve().name}@{digest.hexdigest()}"
    return f"{name}@{getattr(config, '_commit_hash', None) or revision or 'unknown'}"


def _loudness(waveform: np.ndarray) -> float:
    """Return the largest root mean square over windows of 50 ms."""
    window = SAMPLE_RATE // 20
    power = np.square(waveform[: len(waveform) // window * window].astype(np.float64))
    return float(np.sqrt(power.reshape(-1, window).mean(axis=1).max()))
