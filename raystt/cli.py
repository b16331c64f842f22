"""The command line: parse, call `raystt.api` or `raystt.runs`, print.

Results go to standard output (JSON with `--json`), progress to standard error. Heavy libraries are
imported by the verbs that need them, so that `raystt check` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from raystt import api, remote, runs
from raystt.arguments import parser
from raystt.errors import BadInput
from raystt.signals import terminable

if TYPE_CHECKING:
    from raystt.evaluation.jobs import Scored

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    options = parser().parse_args(arguments)
    hint = "; the same command with --resume goes on" if hasattr(options, "resume") else ""
    try:
        with terminable(f"\nraystt: terminated{hint}\n"), _stdout_for_json(options.json):
            return _VERBS[options.verb](options)
    except KeyboardInterrupt:
        print(f"\nraystt: interrupted{hint}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        mendable = isinstance(error, BadInput | FileNotFoundError | FileExistsError)
        if options.debug and not mendable:
            raise
        if options.json:
            from raystt.checking import error_dict

            _print_json(error_dict(error))
        if mendable:
            print(f"raystt: {error}", file=sys.stderr)
            return BAD_INPUT
        print(f"raystt: failed: {type(error).__name__}: {error}", file=sys.stderr)
        print("raystt: --debug shows where", file=sys.stderr)
        return FAILED


_json_output: TextIO | None = None


@contextmanager
def _stdout_for_json(wanted: bool) -> Iterator[None]:
    """Keep standard output for the JSON: what Ray and its workers print goes to standard error."""
    global _json_output
    if not wanted:
        yield
        return
    _json_output = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _json_output = None


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1), file=_json_output or sys.stdout)


def _prepare(options: argparse.Namespace) -> int:
    card = api.prepare(
        options.config, infra=options.infra, stage=options.stage, verbose=options.verbose
    )
    if card is None and options.json:
        _print_json({"fitted": options.stage})
    elif card is None:
        print(f"{options.config}: {options.stage} fitted; go on without --fit-{options.stage}")
    elif options.json:
        _print_json(asdict(card))
    else:
        print(f"prepared, fingerprint {card.fingerprint}")
        for language, splits in card.languages.items():
            counts = ", ".join(
                f"{name} {split.pairs} pairs ({split.source.hours * 60:.0f} min)"
                for name, split in splits.items()
            )
            print(f"  {language}: {counts}")
        bad = card.unplaced
        bad += sum(split.quarantined for s in card.languages.values() for split in s.values())
        if bad:
            print(f"  {bad} rows were left out, see quarantine.jsonl in the corpus")
    return DONE


def _check(options: argparse.Namespace) -> int:
    report = api.check(options.config, infra=options.infra, cluster=options.cluster)
    if options.json:
        _print_json(report.as_dict())
    else:
        print(report.render())
    return BAD_INPUT if report.problems else DONE


def _train(options: argparse.Namespace) -> int:
    trained = runs.train(
        options.config,
        infra=options.infra,
        resume=options.resume,
        local=options.local,
        verbose=options.verbose,
    )
    if trained.diverged_at is not None:
        print(f"raystt: the loss diverged at step {trained.diverged_at}", file=sys.stderr)
        if options.json:
            _print_json({"diverged_at": trained.diverged_at, "model": str(trained.model)})
        return FAILED
    _print_scores(trained.scores, options.json)
    return DONE


def _evaluate(options: argparse.Namespace) -> int:
    score = runs.evaluate(
        options.config,
        infra=options.infra,
        model=options.model,
        split=options.split,
        verbose=options.verbose,
    )
    _print_scores([score], options.json)
    return DONE


def _translate(options: argparse.Namespace) -> int:
    from raystt.evaluation.translate import check_output

    check_output(options.output)
    done = runs.translate(options.config, options.audio, language=options.language)
    done.save(options.output)
    texts = {
        "written source": done.source_text, "written target": done.target_text,
        "heard": done.heard,
    }  # fmt: skip
    if options.json:
        known = {key.replace(" ", "_"): text for key, text in texts.items() if text is not None}
        _print_json({"output": str(options.output), "seconds": done.seconds,
                     "truncated": done.truncated, **known})  # fmt: skip
        return DONE
    for key, text in texts.items():
        if text is not None:
            print(f"{key}: {text or '(nothing)'}")
    cut = "; it had not ended by itself (evaluation.max_new_tokens)" if done.truncated else ""
    print(f"{options.output}: {done.seconds:.1f} s{cut}")
    return DONE


def _export(options: argparse.Namespace) -> int:
    out = runs.export(options.config, options.output, language=options.language)
    print(f"{out}: the model, and what it hears and speaks with; try `raystt translate {out} ...`")
    return DONE


def _print_scores(scores: Sequence[Scored], as_json: bool) -> None:
    if as_json:
        _print_json([asdict(score) for score in scores])
        return
    for score in scores:
        low, high = score.ci
        print(
            f"{score.language} {score.split}: ASR-BLEU {score.asr_bleu:.1f} "
            f"[{low:.1f}, {high:.1f}] on {score.sentences} sentences\n"
            f"  {_beside(score)}\n  {score.signature}\n  {score.model}"
        )


def _beside(score: Scored) -> str:
    """Return what stands beside a score: the other metrics, and what reference speech scores."""
    metrics = [f"{name} {value:.1f}" for name, value in score.metrics.items()]
    best = score.ceiling.resynthesis
    low, high = best.ci
    ceiling = f"ceiling (reference units) {best.asr_bleu:.1f} [{low:.1f}, {high:.1f}]"
    cut = [f"{score.truncated:.0%} cut at evaluation.max_new_tokens"] if score.truncated else []
    return ", ".join([*metrics, ceiling, *cut])


def _search(options: argparse.Namespace) -> int:
    run = api.search(
        options.config,
        infra=options.infra,
        resume=options.resume,
        overwrite=options.overwrite,
        verbose=options.verbose,
    )
    _print_run(run, options.json)
    done = len(run.results) >= run.search.total_trials and not run.summary.missing
    return DONE if done else FAILED


def _report(options: argparse.Namespace) -> int:
    run = api.open_run(options.config)
    api.report(run, running=run.running)
    _print_run(run, options.json)
    return DONE


def _print_run(run: Any, as_json: bool) -> None:
    summary = run.summary
    if as_json:
        _print_json(summary.as_dict())
        return
    from rich.console import Console

    from raystt.report.page import can_draw
    from raystt.report.terminal import terminal
    from raystt.searching.directory import BEST, RunDirectory

    console = Console()
    console.print(terminal(summary))
    there = RunDirectory(run.path)
    for name, path in (
        ("page", there.page),
        ("tables", there.tables),
        ("trials", there.table),
        ("configs", there.path / BEST),
    ):
        if path.exists():
            console.print(f"{name + ':':<9} {path}", soft_wrap=True, highlight=False)
    if url := remote.url_of(run.path):
        console.print(f"{'store:':<9} {url}", soft_wrap=True, highlight=False)
    if not can_draw():
        console.print("no page was written: install raystt[report]", soft_wrap=True)


def _dashboard(options: argparse.Namespace) -> int:
    from raystt.report.dashboard import serve

    serve(api.open_run(options.config).path, port=options.port, say=print)
    return DONE


def _schema(options: argparse.Namespace) -> int:
    from raystt.config.schema import json_schema

    _print_json(json_schema())
    return DONE


_VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "check": _check, "prepare": _prepare, "search": _search, "report": _report,
    "dashboard": _dashboard, "train": _train, "evaluate": _evaluate, "translate": _translate,
    "export": _export,
    "schema": _schema,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
