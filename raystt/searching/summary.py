"""Sum up a search from what lies in its directory; works on an unfinished one too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raystt.config import SearchConfig
from raystt.corpus.card import Card
from raystt.results import read, summarise
from raystt.searching.directory import CEILINGS


def summarise_search(
    search: SearchConfig, path: Path, *, wall_s: float | None = None
) -> dict[str, Any]:
    """Return the content of `summary.json`.

    Args:
        search: The search.
        path: Its directory.
        wall_s: Seconds that the search took; None = from its first trial to its last.
    """
    config = search.base.evaluation
    card = Card.load(search.base.corpus.path)
    return summarise(
        read(path / "results.jsonl"),
        name=search.name,
        references=search.fixed_names,
        split=config.split,
        report_split=config.report_split,
        pairs={name: card.split(name, "train").pairs for name in search.languages},
        ceilings=_ceilings(path),
        wall_s=wall_s,
    )


def _ceilings(path: Path) -> dict[str, Any]:
    """Return the ceilings of each language, by split; none before the search has measured them."""
    try:
        found: dict[str, Any] = json.loads((path / CEILINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found
