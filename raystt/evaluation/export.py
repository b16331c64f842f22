"""A trained model as one directory that translates wherever it lies, as the hub has models."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from raystt import remote
from raystt.config import ResourcesConfig, RunConfig, load_run, to_yaml
from raystt.config.corpus import SourcesConfig
from raystt.config.loading import CONFIG_FILE
from raystt.corpus.card import FILE_NAME, Card
from raystt.errors import BadInput
from raystt.files import replacing
from raystt.hub import MODEL_CARD, pinned

SPEECH = "speech"
"""Folder of what the model lacks: codebook, encoder, vocoder, recogniser, and the corpus' card."""

USE = "## Use"
"""Heading of a card under which stands what its own directory is good for."""

_USE = f"""{USE}

```bash
raystt translate DIRECTORY in.wav -o out.wav
```

`AutoModelForCausalLM.from_pretrained` loads the model, whose tokens are text and speech units;
`{SPEECH}/` holds what makes units of speech, and speech of units. `config.yaml` is what it was
trained by. Made with [raystt](https://github.com/raystt/raystt).
"""


class ExportError(BadInput):
    """A model cannot be exported, or not there; the text says why."""


def export_model(run: RunConfig, model: Path, out: Path, card: str | None) -> None:
    """Write a directory that `AutoModelForCausalLM.from_pretrained` and `raystt translate` take.

    At its top are the model, its tokenizer, the run's `config.yaml` and a card, README.md, with
    the head that the hub reads; in `speech/` what hears and speaks units. Pretrained models that
    the config names on the hub are not in it. Where this machine keeps its files is nobody's
    business: paths, resources and sources are left out.

    Args:
        run: The run that the model was trained by.
        model: Directory of the model.
        out: What to write; appears as a whole.
        card: The card of the run's own directory, in Markdown; None = there is none.

    Raises:
        ExportError: There is something at `out`, or the config names a model in a directory.
        BadInput: The corpus' card cannot be read.
    """
    if out.exists():
        raise ExportError(f"{out}: is there already; name another directory")
    for key, name in _pretrained(run).items():
        if name and os.path.isdir(name):
            raise ExportError(
                f"{key}: {name} is a directory of this machine, and is not exported; train with "
                "its name on the hub"
            )
    corpus = remote.local(run.corpus.path)
    known = Card.of_corpus(corpus)
    parts = [known.units.source.path, known.vocoder.path, known.tokenizer.path]
    parts += [known.asr.path] if known.asr else []
    parts += ["encoder"] if run.corpus.finetune else []
    with replacing(out) as place:
        shutil.copytree(model, place)
        for part in dict.fromkeys(parts):
            _copy(corpus / part, place / SPEECH / part)
        replace(known, tables={}, config={}).save(place / SPEECH)
        (place / CONFIG_FILE).write_text(to_yaml(_anywhere(run)), encoding="utf-8")
        about = (card or _about(run)).partition(f"{USE}\n")[0].rstrip()
        head = _head(run, known).to_yaml()
        text = f"---\n{head}\n---\n\n{about}\n\n{_USE}"
        (place / MODEL_CARD).write_text(text, encoding="utf-8")


def exported(directory: Path) -> RunConfig | None:
    """Return the run of an exported model, with what lies beside it as its corpus; else None."""
    speech = directory / SPEECH
    if not (speech / FILE_NAME).exists():
        return None
    run = load_run(directory / CONFIG_FILE)
    corpus = run.corpus.model_copy(update={"path": str(speech.resolve())})
    return run.model_copy(update={"corpus": corpus})


def _pretrained(run: RunConfig) -> dict[str, str | None]:
    """Return the pretrained models that translating takes, by their keys."""
    units = None if run.corpus.finetune else run.corpus.units.encoder
    return {
        "corpus.units.encoder": units, "corpus.vocoder.model": run.corpus.vocoder.model,
        "evaluation.asr_model": run.evaluation.asr_model,
    }  # fmt: skip


def _anywhere(run: RunConfig) -> RunConfig:
    """Return a run without the places and the machines that it was trained with."""
    fields = type(run).model_fields
    corpus = run.corpus.model_copy(update={"path": SPEECH, "sources": SourcesConfig()})
    return run.model_copy(update={
        "corpus": corpus, "resources": ResourcesConfig(auto=True),
        "storage": fields["storage"].default,
    })  # fmt: skip


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _about(run: RunConfig) -> str:
    """Return what can be said of a run that no search has scored."""
    sizes = run.corpus.languages[run.language]
    return (
        f"# {run.name}: {run.language} to {run.corpus.target}\n\n"
        f"- Schedule of the text ratio: {run.schedule.label()}.\n"
        f"- Data: {sizes.train or 'all'} pairs, {run.corpus.reader} corpus; seed {run.seed}, "
        f"{run.training.steps} steps.\n"
        "- Its scores were not written down.\n"
    )


def _head(run: RunConfig, card: Card) -> Any:
    """Return what the hub shows beside a card and finds models by."""
    from huggingface_hub import ModelCardData

    base = run.model.base
    hub = None if base == "corpus" or os.path.isdir(base) else pinned(base)[0]
    return ModelCardData(
        language=[run.language, card.target_language], library_name="transformers",
        pipeline_tag="audio-to-audio", tags=["speech-to-speech-translation", "raystt"],
        base_model=hub,
    )  # fmt: skip
