"""The vocoder "seamless": the unit HiFi-GAN of SeamlessM4T v2, for its own units alone.

Nothing is fitted to the corpus; what is saved in it is a card that names the model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from raystt.hub import pinned
from raystt.speech import SAMPLE_RATE
from raystt.vocoder.spectrum import VocoderError

if TYPE_CHECKING:  # imported where it is used: it takes seconds, and "conv" does without
    from transformers import SeamlessM4Tv2Config
    from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import (
        SeamlessM4Tv2CodeHifiGan,
    )

CARD = "vocoder.json"
_PREFIX = "vocoder."  # of the HiFi-GAN's weights within a whole SeamlessM4T v2
_LANGUAGE, _SPEAKER = "eng", 0  # the paper's target language; the speaker is transformers' default


class SeamlessVocoder:
    """SeamlessM4T v2's code HiFi-GAN, speaking English."""

    def __init__(
        self, name: str, model: SeamlessM4Tv2CodeHifiGan, language: int, *, deduplicated: bool
    ) -> None:
        """Wrap a loaded model; use `from_pretrained` or `load` instead.

        Args:
            name: of the model.
            model: the model.
            language: its id of the language.
            deduplicated: whether it is to predict durations; otherwise units last one frame.
        """
        self.name, self.deduplicated = name, deduplicated
        self.clusters = int(model.config.unit_hifi_gan_vocab_size)
        self._model = model.eval().requires_grad_(False)
        device = model.device
        self._language = torch.tensor([[language]], device=device)
        self._speaker = torch.tensor([[_SPEAKER]], device=device)

    @classmethod
    def from_pretrained(
        cls, name: str, *, deduplicated: bool = True, device: str = "cpu"
    ) -> SeamlessVocoder:
        """Load the vocoder of a checkpoint, and nothing else of it.

        Args:
            name: directory, NAME or NAME@REVISION of a whole SeamlessM4T v2, or of its code
                HiFi-GAN alone.
            deduplicated: see `__init__`.
            device: where it runs.

        Raises:
            VocoderError: it cannot be read, holds no such vocoder, or one that speaks no English.
        """
        from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import (
            SeamlessM4Tv2CodeHifiGan,
        )

        config, languages = _config(name)
        tensors = _weights(name)
        with torch.device("meta"):  # the weights are there: nothing to draw, nothing to copy
            model = SeamlessM4Tv2CodeHifiGan(config)
        needed = {key: tensor.shape for key, tensor in model.state_dict().items()}
        wrong = [key for key in needed if key not in tensors or tensors[key].shape != needed[key]]
        if wrong:
            raise VocoderError(
                f"{name}: {len(wrong)} weights of its unit vocoder are missing or of another size, "
                f"the first is {wrong[0]}; give a whole SeamlessM4T v2, or its code HiFi-GAN alone"
            )
        model.load_state_dict({key: tensors[key] for key in needed}, assign=True)
        language = languages[_LANGUAGE]
        return cls(name, model.to(device), language, deduplicated=deduplicated)

    @classmethod
    def load(cls, directory: str | Path, *, device: str = "cpu") -> SeamlessVocoder:
        """Load the vocoder that `save_seamless` noted down.

        Raises:
            VocoderError: the card is missing or damaged, or see `from_pretrained`.
        """
        path = Path(directory) / CARD
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            if card["vocoder"] != "seamless":
                raise ValueError("it is not of the vocoder 'seamless'")
            name, deduplicated = str(card["model"]), bool(card["deduplicated"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise VocoderError(
                f"{path}: no readable vocoder ({error}); write it again with: raystt prepare"
            ) from error
        return cls.from_pretrained(name, deduplicated=deduplicated, device=device)

    @torch.no_grad()
    def synthesize(
        self, units: Sequence[np.ndarray], durations: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Synthesize sentences, each on its own: the batch changes nothing.

        Args:
            units: int `[units]` each, Seamless' own. No units give no samples.
            durations: int `[units]` each, frames of 20 ms; None = predicted, or 1 where units are
                not deduplicated.

        Returns:
            float32 `[samples]` each, 16 kHz.

        Raises:
            VocoderError: a unit is not one of Seamless'.
        """
        waveforms = []
        for index, ids in enumerate(units):
            if len(ids) == 0:
                waveforms.append(np.zeros(0, np.float32))
                continue
            row = self._row(ids, f"sentence {index}")
            if durations is not None:
                given = torch.from_numpy(np.asarray(durations[index], np.int64))
                waveform = self._spoken(row.repeat_interleave(given.to(row.device)))
            elif self.deduplicated:
                waveform = self._model(row[None], self._speaker, self._language)[0]
            else:
                waveform = self._spoken(row)
            waveforms.append(waveform[0].cpu().numpy())
        return waveforms

    @property
    def signature(self) -> str:
        """Name the vocoder, its weights (by a hash of them), and its voice."""
        digest = hashlib.blake2b(digest_size=4)
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().numpy().tobytes())
        lengths = "" if self.deduplicated else "-frames"
        return f"seamless-{_LANGUAGE}{_SPEAKER}{lengths}-{digest.hexdigest()}"

    def _row(self, ids: np.ndarray, where: str) -> Tensor:
        row = np.asarray(ids, np.int64)
        strange = row[(row < 0) | (row >= self.clusters)]
        if len(strange):
            raise VocoderError(
                f"{where}: unit {strange[0]} is not one of Seamless', which are 0 to "
                f"{self.clusters - 1}; pass indices of its codebook"
            )
        return torch.from_numpy(row).to(self._model.device)

    def _spoken(self, row: Tensor) -> Tensor:
        """Speak int64 `[frames]` without a prediction of durations: `[1, samples]`."""
        units = self._model.unit_embedding(row)
        language = self._model.language_embedding(self._language[0]).expand(len(row), -1)
        speaker = self._model.speaker_embedding(self._speaker[0]).expand(len(row), -1)
        waveform: Tensor = self._model.hifi_gan(torch.cat([language, units, speaker], 1).T[None])
        return waveform


def save_seamless(
    folder: str | Path, model: str, *, clusters: int, frame_seconds: float, deduplicated: bool
) -> None:
    """Note down the vocoder of a corpus, once it is sure that it speaks the corpus' units.

    Args:
        folder: where `SeamlessVocoder.load` finds it; made if needed.
        model: directory, NAME or NAME@REVISION; see `SeamlessVocoder.from_pretrained`.
        clusters: units of the target codebook.
        frame_seconds: what a unit of duration 1 lasts.
        deduplicated: whether runs of a unit are merged into one.

    Raises:
        VocoderError: the target codebook has another number of clusters than the vocoder, its
            frames another length, or the model cannot be read.
    """
    config, _ = _config(model)
    own = int(config.unit_hifi_gan_vocab_size)
    if clusters != own:
        raise VocoderError(
            f"vocoder {model} speaks its own {own} units, the corpus' codebook has "
            f"{clusters}; use Seamless' encoder and codebook, or `vocoder.kind: conv`"
        )
    samples = math.prod(config.upsample_rates)
    if round(frame_seconds * SAMPLE_RATE) != samples:
        raise VocoderError(
            f"vocoder {model} speaks units of {1000 * samples / SAMPLE_RATE:g} ms, the corpus' are "
            f"of {1000 * frame_seconds:g} ms; use Seamless' encoder, or `vocoder.kind: conv`"
        )
    # Workers run elsewhere: only the full name of a directory means the same to them.
    named = str(Path(model).resolve()) if Path(model).is_dir() else model
    card = {"vocoder": "seamless", "model": named, "deduplicated": deduplicated}
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _config(name: str) -> tuple[SeamlessM4Tv2Config, dict[str, int]]:
    """Read the config and the vocoder's ids of languages.

    They lie in the checkpoint's generation config, or in the config itself.
    """
    from transformers import SeamlessM4Tv2Config

    path, revision = pinned(name)
    try:
        config = SeamlessM4Tv2Config.from_pretrained(path, revision=revision)
        place = _file(name, "generation_config.json")
        found: dict[str, Any] = json.loads(Path(place).read_text("utf-8")) if place else {}
    except (OSError, ValueError) as error:
        raise VocoderError(
            f"{name}: no SeamlessM4T v2 can be read ({error}); give its directory or hub name, "
            "such as facebook/seamless-m4t-v2-large"
        ) from error
    key = "vocoder_lang_code_to_id"
    languages: dict[str, int] | None = found.get(key) or getattr(config, key, None)
    if not languages or not 0 <= languages.get(_LANGUAGE, -1) < config.vocoder_num_langs:
        raise VocoderError(
            f"{name}: {key} names no {_LANGUAGE!r}; put the checkpoint's generation_config.json "
            "beside its config.json"
        )
    if config.sampling_rate != SAMPLE_RATE:
        raise VocoderError(
            f"{name}: speaks at {config.sampling_rate} Hz; choose a vocoder of {SAMPLE_RATE} Hz"
        )
    return config, languages


def _weights(name: str) -> dict[str, Tensor]:
    """Read the HiFi-GAN's tensors, float32, from either layout; other weights stay unread."""
    index = _file(name, "model.safetensors.index.json")
    files = {"model.safetensors"}
    if index is not None:
        shards: dict[str, str] = json.loads(Path(index).read_text("utf-8"))["weight_map"]
        own = {file for key, file in shards.items() if key.startswith(_PREFIX)}
        files = own or set(shards.values())
    tensors: dict[str, Tensor] = {}
    for file in sorted(files):
        place = _file(name, file)
        if place is None:
            raise VocoderError(
                f"{name}: {file} is missing; give a checkpoint that is stored as safetensors"
            )
        try:
            with safe_open(place, "pt") as opened:
                keys = list(opened.keys())
                whole = any(key.startswith(_PREFIX) for key in keys)
                for key in keys:
                    if key.startswith(_PREFIX) or not whole:
                        tensors[key.removeprefix(_PREFIX)] = opened.get_tensor(key).float()
        except SafetensorError as error:
            raise VocoderError(f"{name}: {file} is damaged ({error}); download it again") from error
    return tensors


def _file(name: str, file: str) -> str | None:
    """Find a file of a checkpoint, in a directory or on the hub; None where it has none."""
    from transformers.utils import cached_file

    path, revision = pinned(name)
    try:
        found: str | None = cached_file(
            path, file, revision=revision, _raise_exceptions_for_missing_entries=False
        )
    except (OSError, ValueError) as error:
        raise VocoderError(
            f"{name}: {file} cannot be had ({error}); download the checkpoint, or mend the name"
        ) from error
    return found
