"""Write `report/` of a search: the figure, and the tables as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raystt.files import write_atomic
from raystt.report.figures import draw_schedules
from raystt.report.markdown import markdown
from raystt.results import Result


def write_report(results: list[Result], summary: dict[str, Any], directory: Path) -> list[Path]:
    """Write the figure and `table.md` of a search, finished or not.

    Args:
        results: Lines of `results.jsonl`.
        summary: What `summary.json` holds of them.
        directory: Where to write; made if missing.

    Returns:
        The files written.
    """
    pairs = {name: entry["pairs"] for name, entry in summary["languages"].items()}
    figures = draw_schedules(
        results,
        directory,
        split=summary["split"],
        objective=summary["objective"],
        pairs=pairs,
        title=summary["name"],
    )
    table = directory / "table.md"
    write_atomic(table, markdown(summary, results))
    return [*figures, table]
