"""Vocoders by name: "conv" is fitted to a corpus, "seamless" comes trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from raystt.vocoder.conv import ConvVocoder
from raystt.vocoder.seamless import SeamlessVocoder
from raystt.vocoder.spectrum import VocoderError


class Vocoder(Protocol):
    """Speech units to waveforms; see `ConvVocoder` for the meaning of each member."""

    @classmethod
    def load(cls, directory: str | Path, *, device: str = "cpu") -> Vocoder: ...

    def synthesize(
        self, units: Sequence[np.ndarray], durations: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]: ...

    @property
    def signature(self) -> str: ...


VOCODERS: dict[str, type[Vocoder]] = {"conv": ConvVocoder, "seamless": SeamlessVocoder}


def load_vocoder(name: str, directory: Path, *, device: str = "cpu") -> Vocoder:
    """Load a vocoder of `VOCODERS` from where it was saved.

    Raises:
        VocoderError: there is none of that name, or it cannot be loaded.
    """
    if name not in VOCODERS:
        raise VocoderError(f"vocoder {name!r} is unknown; take one of: {', '.join(VOCODERS)}")
    return VOCODERS[name].load(directory, device=device)
