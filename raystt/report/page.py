"""Write `report/` of a search: one page to look at and listen to, and the tables as Markdown."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raystt.config import BASELINE, OBJECTIVES, SearchConfig, to_yaml
from raystt.evaluation.jobs import hypotheses_of
from raystt.files import replacing, write_atomic
from raystt.lines import objects
from raystt.report.listening import Spoken, listening
from raystt.report.markdown import markdown
from raystt.report.tables import FLOOR, answer_rows, best_name, language_title, notes, verdicts
from raystt.results import Failure, Result
from raystt.searching.directory import RunDirectory
from raystt.searching.summary import LanguageSummary, Summary
from raystt.training.jobs import LOG

if TYPE_CHECKING:
    from raystt.report.charts import Curve

_POINTS = 100  # of a curve: a page must open however long a training was

REFRESH = 60
"""Seconds after which the page of a running search looks for what is new."""


@dataclass(frozen=True)
class Content:
    """What a report is made of.

    Attributes:
        path: Directory of the search.
        search: Its config.
        failures: Trials that could not be run.
        summary: What is finished, summed up.
        importances: Of the searched keys, by language, where there are enough trials.
        environment: What it ran on.
        running: Whether the search runs.
    """

    path: Path
    search: SearchConfig
    failures: Sequence[Failure]
    summary: Summary
    importances: Mapping[str, Mapping[str, float]]
    environment: Mapping[str, Any]
    running: bool

    @property
    def results(self) -> list[Result]:
        """The finished trials, on the split that they are compared on."""
        return [result for language in self.summary.languages for result in language.results]

    @property
    def failed(self) -> list[Failure]:
        """The trials that could not be run, each as it failed last."""
        done = {(r.language, r.trial) for r in self.results}
        last = {(f.language, f.trial): f for f in self.failures}
        return [failure for place, failure in last.items() if place not in done]

    @property
    def missing(self) -> int:
        """Trials and trainings on fresh seeds that are still to come."""
        lacking = self.search.total_trials - len(self.results) - len(self.failed)
        return lacking + self.summary.missing


def write_report(content: Content, *, figures: bool = True) -> list[Path]:
    """Write `table.md`, and where raystt[report] is installed `index.html` and the figure.

    Args:
        content: What is known of the search, finished or not.
        figures: Draw `schedules.png` too, which takes seconds.

    Returns:
        The files written.
    """
    run = RunDirectory(content.path)
    run.report.mkdir(parents=True, exist_ok=True)
    write_atomic(run.tables, markdown(content.summary))
    if not can_draw():
        return [run.tables]
    drawn = draw(content)
    write_atomic(run.page, html(content, drawn))
    figure = [_figure(content, drawn, run.report)] if figures and drawn else []
    return [run.page, run.tables, *figure]


def can_draw() -> bool:
    """Say whether Altair and its renderer are installed."""
    return all(find_spec(name) is not None for name in ("altair", "vl_convert"))


@dataclass(frozen=True)
class Drawn:
    """A chart of the page.

    Attributes:
        language: Whose; "" = it compares languages.
        name: What it shows, such as "schedules".
        caption: What a person reads above it.
        chart: The chart itself, of Altair.
    """

    language: str
    name: str
    caption: str
    chart: Any


def draw(content: Content) -> list[Drawn]:
    """Draw what each language tried, and what languages share."""
    from raystt.report import charts

    summary, search = content.summary, content.search
    scale = charts.Scale(content.results, search.objective, summary.split)
    drawn: list[Drawn] = []
    for language in summary.languages:
        results, best = language.results, language.best
        if not results:
            continue
        logs = {r.trial: log for r in results if (log := _log(content.path, r)) is not None}
        chosen, fresh = best.result.trial if best else None, {}
        if best and best.fresh and language.optimism is not None:
            fresh[best.result.trial] = best.fresh.on_split
        workers = search.base.resources.workers_per_trainer
        found: list[tuple[str, str, Any]] = [
            ("schedules", "Schedules tried; the best is red, references are dashed, points are the "
             "share of words that was text",
             charts.schedules(results, logs, chosen, search.references, scale)),
            ("history", "Score over trials, the best so far, and in red what the best scored on "
             "fresh seeds", charts.history(results, fresh, scale)),
            ("response", "Score by where text starts and ends, of what is spoken",
             charts.response(results, scale)),
            ("cost", "Score against the cost of the training",
             charts.cost(results, workers, scale)),
        ]  # fmt: skip
        if logs:
            found += [
                (field, caption, charts.learning(results, logs, field, axis, scale))
                for field, caption, axis in (
                    ("loss", "Loss of each training", "nats a predicted token"),
                    ("achieved", "Share of the words that were text", "share of words"),
                    ("tokens", "Tokens trained on", "tokens"),
                )
            ]
        if content.importances.get(language.language):
            chart = charts.importances(content.importances[language.language])
            found.append(("importances", "What the score depends on", chart))
        drawn += [Drawn(language.language, *one) for one in found]
    both = charts.languages(content.results, scale)
    if both is not None:
        drawn.append(Drawn("", "languages", "The same run in each language", both))
    return drawn


@functools.cache
def _scripts() -> str:
    """Return the code that draws the charts; it takes seconds to bundle, and is always the same."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def html(content: Content, drawn: Sequence[Drawn]) -> str:
    """Return the page, which needs nothing outside of itself."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from raystt.report import charts

    summary = content.summary
    specs = {
        f"chart-{number}": charts.specification(one.chart.properties(width="container"))
        for number, one in enumerate(drawn)
    }

    def shown(language: str) -> list[dict[str, str]]:
        numbered = zip(specs, drawn, strict=True)
        return [{"id": i, "caption": d.caption} for i, d in numbered if d.language == language]

    languages = [
        {
            "name": one.language, "title": language_title(one),
            "rows": answer_rows(summary, one), "charts": shown(one.language),
            "spoken": _spoken(content, one),
        }
        for one in summary.languages
    ]  # fmt: skip
    template = Environment(
        loader=PackageLoader("raystt.report", ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    ).get_template("page.html.jinja")  # fmt: skip
    return template.render(
        name=summary.name, state=_state(content), running=content.running, refresh=REFRESH,
        verdicts=verdicts(summary), languages=languages, signature=summary.signature,
        notes=notes(summary), score=OBJECTIVES[content.search.objective], split=summary.split,
        report_split=summary.report_split or summary.split, shared=shown(""),
        troubles=_troubles(content), environment=_environment(content),
        config=to_yaml(content.search),
        scripts=_scripts(),
        specs=json.dumps(specs).replace("<", "\\u003c"),
    )  # fmt: skip


def _spoken(content: Content, language: LanguageSummary) -> list[Spoken]:
    """Return what can be heard of a language: no interleaving, the paper's schedule, the best."""
    runs = [
        (name, language.references[name].result)
        for name in (FLOOR, BASELINE) if name in language.references
    ]  # fmt: skip
    if language.best and language.best.result.reference not in (FLOOR, BASELINE):
        runs.append((best_name(language.best.result), language.best.result))
    folder = RunDirectory(content.path).recordings / f"{language.language}-{content.summary.split}"
    return listening(folder, RunDirectory(content.path).trials, runs)


def _log(path: Path, one: Result) -> Curve | None:
    """Read the log of a trial's training; None where it was not kept."""
    from raystt.report.charts import Curve

    rows = objects(RunDirectory(path).trials / one.folder / LOG)
    rows = rows[:: max(1, len(rows) // _POINTS)]
    columns = {
        name: np.array([np.nan if row[key] is None else row[key] for row in rows], kind)
        for name, key, kind in (("steps", "step", np.int64), ("loss", "loss", np.float64),
                                ("achieved", "achieved_words", np.float64),
                                ("tokens", "tokens", np.int64))
    }  # fmt: skip
    return Curve(**columns) if rows else None


def _state(content: Content) -> str:
    """Say how far the search is."""
    summary, total = content.summary, content.search.total_trials
    done = f"{len(content.results)} of {total} trials, {summary.wall_s / 3600:.1f} h"
    now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    if content.running:
        return f"running: {done}; as of {now} UTC, looks again every {REFRESH} s"
    if content.missing:
        return f"not finished: {done}; --resume goes on; written {now} UTC"
    return f"finished: {done}; written {now} UTC"


def _troubles(content: Content) -> list[str]:
    """Say what failed, diverged, or was not said to its end."""
    lines = [f"{f.label} could not be run: {f.error.splitlines()[0]}" for f in content.failed]
    lines += [
        f"{r.label} diverged at step {r.step} of {r.steps}: {r.schedule.label()}"
        for r in content.results if r.status == "diverged"
    ]  # fmt: skip
    for r in content.results:
        said = objects(hypotheses_of(RunDirectory(content.path).trials / r.folder, r.split))
        cut = sum(line.get("truncated", False) for line in said)
        if cut:
            most = content.search.base.evaluation.max_new_tokens
            lines.append(f"{r.label}: {cut} of {len(said)} sentences had not ended after "
                         f"{most} tokens (evaluation.max_new_tokens)")  # fmt: skip
    return lines


def _environment(content: Content) -> dict[str, str]:
    """Return what the search ran on and what it took, as text."""
    found = dict(content.environment)
    versions = found.pop("versions", {})
    rows = {key: str(value) for key, value in found.items() if value not in ("", [], None)}
    if versions:
        rows["versions"] = ", ".join(f"{name} {one}" for name, one in versions.items())
    hours = sum(r.train_seconds for r in content.results) / 3600
    workers = content.search.base.resources.workers_per_trainer
    rows["device-hours of training, trials"] = f"{hours * workers:.1f}"
    rows["hours of evaluation, trials"] = (
        f"{sum(r.evaluate_seconds for r in content.results) / 3600:.1f}"
    )
    return rows


def _figure(content: Content, drawn: Sequence[Drawn], folder: Path) -> Path:
    """Draw the schedules of all languages as one PNG."""
    import altair as alt
    import vl_convert

    from raystt.report.charts import specification

    titles = {one.language: language_title(one) for one in content.summary.languages}
    found = [
        one.chart.properties(width=420, title=titles[one.language])
        for one in drawn if one.name == "schedules"
    ]  # fmt: skip
    path = folder / "schedules.png"
    with replacing(path) as temporary:
        whole = specification(alt.concat(*found, columns=2))
        temporary.write_bytes(vl_convert.vegalite_to_png(whole, scale=2))
    return path
