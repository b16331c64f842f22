"""Names of pretrained models: a directory, or NAME or NAME@REVISION of the hub."""

from __future__ import annotations

from pathlib import Path


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
