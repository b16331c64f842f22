"""Sum up a search from what lies in its directory; works on an unfinished one too."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from raystt.corpus.card import Card
from raystt.report.results import read, summarise
from raystt.space import SearchConfig


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
        split=config.split,
        report_split=config.report_split,
        pairs={name: card.split(name, "train").pairs for name in search.languages},
        ceiling={
            name: asdict(card.ceiling[name]) for name in search.languages if name in card.ceiling
        },
        wall_s=wall_s,
    )
