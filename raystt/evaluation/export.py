"""A trained model as one directory that translates by itself, laid out as the hub has models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from raystt.config import RunConfig, to_yaml
from raystt.corpus.card import FILE_NAME, Card
from raystt.errors import BadInput
from raystt.files import replacing

SPEECH = "speech"
"""Folder of what the model lacks: codebook, encoder, vocoder, recogniser, and the corpus' card."""


class ExportError(BadInput):
    """A model cannot be exported there; the text says why."""


def export_model(run: RunConfig, model: Path, out: Path, about: str) -> None:
    """Write a directory that `AutoModelForCausalLM.from_pretrained` and `raystt translate` take.

    At its top are the model, its tokenizer, the run's `config.yaml` and a card, README.md, with
    the head that the hub reads; in `speech/` what hears and speaks units.

    Args:
        run: The run that the model was trained by.
        model: Directory of the model.
        out: What to write; appears as a whole.
        about: What the card says, in Markdown.

    Raises:
        ExportError: There is something at `out`.
        BadInput: The corpus' card cannot be read.
    """
    if out.exists():
        raise ExportError(f"{out}: is there already; name another directory")
    corpus = Path(run.corpus.path).resolve()
    card = Card.load(corpus)
    with replacing(out) as place:
        shutil.copytree(model, place)
        (place / SPEECH).mkdir()
        parts = [card.units.source.path, card.vocoder.path]
        parts += [card.asr.path] if card.asr else []
        parts += ["encoder"] if run.corpus.finetune else []
        for part in dict.fromkeys([FILE_NAME, *parts]):
            _copy(corpus / part, place / SPEECH / part)
        (place / "config.yaml").write_text(to_yaml(run), encoding="utf-8")
        head = _head(run, card).to_yaml()
        (place / "README.md").write_text(f"---\n{head}\n---\n\n{about}", encoding="utf-8")


def exported(directory: Path, run: RunConfig) -> RunConfig | None:
    """Return the run of an exported model with what lies beside it as its corpus; else None."""
    speech = directory / SPEECH
    if not (speech / FILE_NAME).exists():
        return None
    return run.model_copy(update={"corpus": run.corpus.model_copy(update={"path": str(speech)})})


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _head(run: RunConfig, card: Card) -> Any:
    """Return what the hub shows beside a card and finds models by."""
    from huggingface_hub import ModelCardData

    base = run.model.base
    hub = base if base != "corpus" and not os.path.isdir(base) else None
    return ModelCardData(
        language=[run.language, card.target_language], library_name="transformers",
        pipeline_tag="audio-to-audio", tags=["speech-to-speech-translation", "raystt"],
        base_model=hub,
    )  # fmt: skip
