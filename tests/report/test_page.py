"""The page of a search, of results that look like a real one's, in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest

from raystt.config import SearchConfig, load_search
from raystt.evaluation.clips import CLIPS, clip, encode, heard, write_clips
from raystt.evaluation.jobs import clips_of, hypotheses_of
from raystt.report.listening import listening, marked
from raystt.report.live import LiveReport
from raystt.report.page import Content, draw, write_report
from raystt.report.page import html as html_of
from raystt.results import Failure, Result, ResultsError
from raystt.schedule import Schedule, from_dict
from raystt.scores import bleu, sentence_bleu
from raystt.searching.summarise import summarise

pytestmark = pytest.mark.slow  # each draws all charts of a page

ROOT = Path(__file__).resolve().parents[2]
PAIRS = {"es": 300, "fr": 1000}
MEANT = "he carries four red letters"
SAID = "he carries <b>red</b> letters"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def result(
    language: str, trial: int, schedule: dict[str, Any] | Schedule, score: float, **more: Any
) -> Result:
    given = from_dict(schedule) if isinstance(schedule, dict) else schedule
    return made.result(trial, score, language=language, schedule=given, **more)


def made_up_search() -> list[Result]:
    """Return two studies of ten proposals behind three references; one run diverged."""
    random = np.random.default_rng(3)
    paper = {"shape": "staircase", "initial": 0.9, "final": 0.0, "hold": 0.0, "end": 0.8}
    lines = []
    for language, low in (("es", 14.0), ("fr", 24.0)):
        lines += [
            result(language, 0, {"shape": "constant", "initial": 0.0}, low, reference="none"),
            result(language, 1, paper, low + 19, reference="paper"),
            result(
                language, 2, {"shape": "constant", "initial": 0.3}, low + 3, reference="constant"
            ),
        ]
        shapes = ["linear", "cosine", "exponential", "polynomial", "sigmoid", "staircase"]
        for trial in range(3, 13):
            end = round(float(random.uniform(0.3, 1.0)), 2)
            initial = round(float(random.uniform(0.4, 1.0)), 1)
            schedule = {"shape": shapes[trial % 6], "initial": initial, "final": 0.0, "end": end}
            score = low + 26 * initial * (1 - (end - 0.8) ** 2) + float(random.normal(0, 1.5))
            lines.append(result(language, trial, schedule, score))
    lines[5] = made.diverged(5, schedule=lines[5].schedule)
    return lines


def search(trials: int = 13) -> SearchConfig:
    found = load_search(ROOT / "search_spaces" / "quickstart.yaml")
    return found.model_copy(update={"trials": trials, "references": ("none", "paper", "constant")})


def content(path: Path, results: list[Result], **changes: Any) -> Content:
    summary = summarise(results, name="made up", split="dev", report_split="test", pairs=PAIRS)
    values: dict[str, Any] = {
        "path": path, "search": search(), "failures": [], "summary": summary,
        "importances": {"es": {"schedule.end": 0.7, "schedule.initial": 0.3}},
        "environment": {"raystt": "0.1", "versions": {"ray": "2.60"}}, "running": False,
    }  # fmt: skip
    return Content(**(values | changes))


def html(found: Content) -> str:
    return html_of(found, draw(found))


def write_trials(path: Path, results: list[Result]) -> None:
    """Write what trials leave: logs, hypotheses, and clips of a tone for all but one sentence."""
    tone = encode(0.3 * np.sin(np.arange(16000) / 20).astype(np.float32), 16000)
    ids = [f"es-dev-{n:06d}" for n in range(20)]
    for language in PAIRS:
        folder = path / "recordings" / f"{language}-dev"
        folder.mkdir(parents=True)
        index = [{"id": ids[place], "source": "él lleva", "target": MEANT} for place in heard(ids)]
        (folder / "sentences.json").write_text(json.dumps(index))
        for number in range(CLIPS):
            for side in ("source", "target"):
                clip(folder, number, side).write_bytes(tone)
    statistics = bleu().statistics([SAID], [MEANT])[0].tolist()
    for one in results:
        trial = path / "trials" / one.folder
        trial.mkdir(parents=True)
        steps = [
            {"step": s, "loss": None if s == 30 else 5.0 - s / 50, "achieved_words": 0.5,
             "tokens": s * 900}
            for s in range(10, 170, 10)
        ]  # fmt: skip
        (trial / "train.jsonl").write_text("".join(json.dumps(s) + "\n" for s in steps))
        lines = [
            {"id": name, "hypothesis": SAID, "reference": MEANT, "truncated": n < 2,
             "statistics": {"asr_bleu": statistics}}
            for n, name in enumerate(ids)
        ]  # fmt: skip
        path_of = hypotheses_of(trial, "dev")
        path_of.write_text("".join(json.dumps(line) + "\n" for line in lines))
        write_clips(clips_of(trial, "dev"), [b"", *[tone] * (CLIPS - 1)])


def test_a_reference_may_be_the_best(tmp_path: Path) -> None:
    """An ablation of the paper's schedule does not take its place."""
    results = [r for r in made_up_search() if r.reference and r.language == "es"]
    mask = replace(results[1], reference="mask", trial=90, asr_bleu=1.5)
    page = html(content(tmp_path, [*results, mask], importances={}))
    assert "best = paper" in page and f"{results[1].asr_bleu:.1f} [" in page
    assert "mask" in page and "1.5 [" in page


def test_words_are_marked() -> None:
    kinds = [(word.text, word.kind) for word in marked("a b x d", "a b c d e")]
    assert kinds == [("a", "right"), ("b", "right"), ("x", "wrong"), ("c", "missing"),
                     ("d", "right"), ("e", "missing")]  # fmt: skip
    assert [word.kind for word in marked("", "a b")] == ["missing", "missing"]


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    one = made_up_search()[1]
    assert listening(tmp_path, tmp_path, [("paper", one)]) == []
    write_trials(tmp_path, [one])
    lost = replace(one, trial=99)
    spoken = listening(
        tmp_path / "recordings" / "es-dev", tmp_path / "trials", [("paper", one), ("lost", lost)]
    )
    assert len(spoken) == CLIPS and [said.run for said in spoken[0].said] == ["paper"]
    assert spoken[0].said[0].clip == "" and spoken[1].said[0].clip.startswith("data:audio/mpeg")


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_search_that_has_just_begun_has_a_page(tmp_path: Path, kept: int) -> None:
    results = made_up_search()[:kept]
    page = html(content(tmp_path, results, importances={}, running=True))
    assert "location.reload" in page and f"running: {kept} of 26 trials" in page
    page = html(content(tmp_path, results, importances={}))
    assert "location.reload" not in page and f"not finished: {kept} of 26 trials" in page


def test_what_went_wrong_is_told(tmp_path: Path) -> None:
    results = made_up_search()
    write_trials(tmp_path, results)
    first = results[4]
    failed = Failure(**{**first.identity(), "trial": 40}, error="no <memory>\nTraceback", time=1.0)
    again = Failure(**first.identity(), error="later it was", time=1.0)
    found = content(tmp_path, results, failures=[failed, failed, again], search=search(14))
    assert found.failed == [failed] and found.missing == 1
    page = html(found)
    for part in ("es#40 could not be run: no &lt;memory&gt;", "es#5 diverged at step 120 of",
                 "es#0: 2 of 20 sentences had not ended", "not finished: 26 of 28",
                 "&lt;b&gt;red&lt;/b&gt;"):  # fmt: skip
        assert part in page, part
    for part in ("Traceback", "<b>red</b>", "later it was"):
        assert part not in page, part


def test_a_damaged_line_is_named_and_a_torn_one_is_left_out(tmp_path: Path) -> None:
    results = made_up_search()
    write_trials(tmp_path, results)
    log = tmp_path / "trials" / results[0].folder / "train.jsonl"
    log.write_text(log.read_text() + '{"step": 1')
    html(content(tmp_path, results))
    # A line separator of Unicode is part of a text, not the end of a line.
    lines = hypotheses_of(tmp_path / "trials" / results[0].folder, "dev")
    lines.write_text(lines.read_text().replace("carries", "car\u2028ries"))
    html(content(tmp_path, results))
    lines.write_text("{\n" + lines.read_text())
    with pytest.raises(ResultsError, match=r"hypotheses-dev\.jsonl:1: the line is damaged"):
        html(content(tmp_path, results))


def test_a_perfect_sentence_scores_100_however_short() -> None:
    row = bleu().statistics(["i see it"], ["i see it"])[0]
    assert sentence_bleu(row) == pytest.approx(100.0) and bleu().point(row[None]) == 0.0


def test_another_objective_and_a_schedule_for_each_side(tmp_path: Path) -> None:
    paper = {"shape": "staircase", "initial": 0.9, "end": 0.8}
    apart = {"shape": "apart", "source": paper, "target": {"shape": "constant", "initial": 0.0}}
    results = [
        result("zh-CN", 0, paper, 20.0, reference="paper", chrf=40.0),
        result("zh-CN", 1, apart, 10.0, chrf=45.5),
        replace(made.diverged(2), language="zh-CN", schedule=from_dict(paper)),
    ]
    summary = summarise(results, name="made up", split="dev", objective="chrf")
    chosen = search(3).model_copy(update={"objective": "chrf", "languages": ("zh-CN",)})
    page = html(content(tmp_path, results, search=chosen, summary=summary, importances={}))
    for part in ("chrF, dev, one seed", ">45.5<", "best, #1", "finished: 3 of 3 trials"):
        assert part in page, part


def test_the_same_results_give_the_same_figure(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        files.append(write_report(content(tmp_path / name, made_up_search())))
        assert [file.name for file in files[-1]] == ["index.html", "table.md", "schedules.png"]
    first, second = (written[-1].read_bytes() for written in files)
    assert first == second and first.startswith(b"\x89PNG") and len(first) > 20_000


def test_a_running_search_is_shown_again_and_again() -> None:
    told: list[str] = []
    tried: list[float] = []
    now = 0.0

    def write() -> None:
        tried.append(now)
        if now in (0.0, 60.0):
            raise ValueError("the disk is full")

    live = LiveReport(write, told.append, clock=lambda: now)
    # Nothing is found; then it is; it is not time again; it is; nothing is new; there is.
    for at, found in ((0.0, 0), (0.0, 1), (59.0, 2), (60.0, 2), (200.0, 2), (201.0, 3)):
        now = at
        live.look(found)
        live.wait()
    assert tried == [0.0, 60.0, 201.0]
    assert len(told) == 1 and "the disk is full" in told[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("needs Chromium on PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        found = playwright.chromium.launch(executable_path=program, args=options)
        yield found
        found.close()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_in_a_browser(tmp_path: Path, browser: Any, width: int, scheme: str) -> None:
    results = made_up_search()
    write_trials(tmp_path, results)
    path = write_report(content(tmp_path, results), figures=False)[0]
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page, asked, errors = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda line: errors.append(line.text) if line.type != "log" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    marks = ", ".join(f"svg .mark-{kind} path" for kind in ("symbol", "line", "rect"))
    drawn = f"c => c.querySelector('{marks}')"
    page.wait_for_function(
        f"[...document.querySelectorAll('.chart')].every({drawn})", timeout=60_000
    )
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    # Seven charts a language, importances of one, and both languages together.
    assert page.locator(".chart svg").count() == 2 * 7 + 1 + 1
    # Source, reference, none, paper, best; the first sentence was not said by the models.
    players = page.locator("audio")
    assert players.count() == 2 * (CLIPS * 5 - 3)
    length = page.evaluate(
        "new Promise((done, failed) => { const a = document.querySelector('audio');"
        "a.onloadedmetadata = () => done(a.duration); a.onerror = failed; a.load();"
        "a.preload = 'auto'; })"
    )
    assert length == pytest.approx(1.0, abs=0.15)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, "the page itself does not scroll sideways"
    # On paper nothing is cut off: A4 without its margins.
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 900})
    cut = page.evaluate(
        "[...document.querySelectorAll('table, .chart svg, .sentence, pre')]"
        ".filter(e => e.getClientRects().length && e.getBoundingClientRect().right > 700)"
        ".map(e => e.outerHTML.slice(0, 200))"
    )
    assert cut == []
    assert page.locator("audio").first.is_hidden()
    context.close()
