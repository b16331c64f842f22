"""Names of pretrained models: a directory, or NAME or NAME@REVISION of the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODEL_CONFIG, MODEL_CARD = "config.json", "README.md"
"""Names that transformers and the hub look for in the directory of a model."""


def pinned(name: str | Path) -> tuple[str, str | None]:
    """Split a name into what `from_pretrained` takes and the revision it is pinned to.

    >>> pinned("openai/whisper-large-v3@06f233f")
    ('openai/whisper-large-v3', '06f233f')
    """
    text = str(name)
    if "@" not in text or Path(text).exists():
        return text, None
    name, _, revision = text.rpartition("@")
    return name, revision


def cached(name: str, file: str) -> Path | None:
    """Find a file of a pretrained model in its directory or in the hub's cache."""
    if Path(name).is_dir():
        return Path(name) / file if (Path(name) / file).is_file() else None
    from huggingface_hub import try_to_load_from_cache  # half a second, and not always needed
    from huggingface_hub.errors import HFValidationError

    repository, revision = pinned(name)
    try:
        found = try_to_load_from_cache(repository, file, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def read_config(name: str) -> dict[str, Any]:
    """Return the `config.json` of a pretrained model; empty where there is none to read."""
    path = cached(name, MODEL_CONFIG)
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path else None
    except (OSError, ValueError):
        return {}  # loading it will say so
    return data if isinstance(data, dict) else {}
