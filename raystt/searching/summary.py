"""Sum up a search from what lies in its directory; works on an unfinished one too."""

from __future__ import annotations

from typing import Any

from raystt.config import SearchConfig
from raystt.results import summarise
from raystt.searching.directory import RunDirectory


def summarise_search(search: SearchConfig, directory: RunDirectory) -> dict[str, Any]:
    """Return the content of `summary.json`."""
    config, card = search.base.evaluation, directory.card()
    return summarise(
        directory.read(),
        name=search.name,
        references=search.fixed_names,
        split=config.split,
        report_split=config.report_split,
        pairs={name: card.split(name, "train").pairs for name in search.languages},
        ceilings=directory.read_ceilings(),
    )
