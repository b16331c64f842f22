"""Search of text-ratio schedules for interleaved speech-text training, on Ray.

    import raystt

    raystt.Linear(initial=0.9, end=0.8).ratio(0.4)
    run = raystt.search("search_spaces/quickstart.yaml", resume=True)
    run.trials, run.best["es"].config, run.study("es")

Names are imported when they are used: the package itself loads neither Ray nor torch.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "raystt.api": ("check", "open_run", "prepare", "search"),
    "raystt.runs": ("evaluate", "export", "train", "translate"),
    "raystt.config": ("RunConfig", "SearchConfig", "load_run", "load_search"),
    "raystt.errors": ("BadInput",),
    "raystt.interleaving.rules": ("Interleaving", "utterance_key"),
    "raystt.interleaving.sequences": ("Sequences", "interleave", "prompt"),
    "raystt.interleaving.streams": ("Layout", "Side"),
    "raystt.results": ("Proposal", "Result"),
    "raystt.schedule": (
        "Apart",
        "Constant",
        "Cosine",
        "Exponential",
        "Knots",
        "Linear",
        "Polynomial",
        "Sigmoid",
        "Staircase",
        "from_dict",
    ),
    "raystt.searching.opened": ("Run",),
    "raystt.searching.searcher": ("StudySearcher",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'raystt' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
