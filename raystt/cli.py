"""The command line: prepare, check, train, search, evaluate, report.

Exit codes: 0 done, 1 failed, 2 bad input. Results go to standard output (JSON with `--json`),
progress to standard error. Heavy libraries are imported by the verbs that need them, so that
`raystt check` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raystt import __version__
from raystt.checking.installation import check_installation
from raystt.config import RunConfig, SearchConfig, load_any, load_run, load_search, to_yaml
from raystt.errors import BadInput

DONE, FAILED, BAD_INPUT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.verb not in (_check, _report):
            check_installation()
        return int(options.verb(options))
    except KeyboardInterrupt:
        print("\nraystt: interrupted; the same command with --resume goes on", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, BadInput | FileNotFoundError | FileExistsError):
            print(f"raystt: {error}", file=sys.stderr)
            return BAD_INPUT
        if options.debug:
            raise
        print(f"raystt: failed: {type(error).__name__}: {error}", file=sys.stderr)
        print("raystt: --debug shows where", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="raystt",
        description="Search how text should give way to speech while an LLM learns to translate "
        "speech.",
    )
    parser.add_argument("--version", action="version", version=f"raystt {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    def add(name: str, run: Any, text: str, config: str) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("config", type=Path, metavar=config)
        verb.add_argument("--json", action="store_true", help="print the result as JSON")
        verb.add_argument("--debug", action="store_true", help="show the traceback of a failure")
        verb.set_defaults(verb=run)
        return verb

    prepare = add(
        "prepare", _prepare,
        "Prepare the corpus of a run or a search: units, alignment, shards and the models fitted "
        "to it. Goes on where it stopped.", "CONFIG.yaml",
    )  # fmt: skip
    stages = prepare.add_mutually_exclusive_group()
    for stage, text in (
        ("encoder", "fine-tune the unit encoder with CTC (corpus.finetune), and stop"),
        ("units", "fit the k-means codebooks (corpus.units), and stop"),
        ("vocoder", "fit the vocoder (corpus.vocoder), and stop"),
    ):
        stages.add_argument(
            f"--fit-{stage}", action="store_const", const=stage, dest="stage",
            help=text + "; makes first what that needs",
        )  # fmt: skip
    add(
        "check", _check,
        "Check a run or a search without starting Ray, and print what it would do.", "CONFIG.yaml",
    )  # fmt: skip
    train = add("train", _train, "Train one run and evaluate it.", "RUN.yaml")
    train.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    search = add(
        "search", _search, "Search schedules: one study a language, references first.", "SPACE.yaml"
    )
    search.add_argument(
        "--resume", action="store_true",
        help="go on with a search that was stopped; finished trials are not repeated",
    )  # fmt: skip
    search.add_argument(
        "--overwrite", action="store_true", help="delete what is in the directory of the search"
    )
    evaluate = add("evaluate", _evaluate, "Evaluate a trained model.", "RUN.yaml")
    evaluate.add_argument(
        "--model", type=Path, help="model directory (default: the one that `train` left)"
    )
    evaluate.add_argument("--split", choices=["dev", "test"], help="default: evaluation.split")
    add(
        "report", _report,
        "Print the table of a search and write report/ (table and figure), also of one that is "
        "still running.", "RUN_DIRECTORY",
    )  # fmt: skip
    return parser


def _prepare(options: argparse.Namespace) -> int:
    config = load_any(options.config)
    corpus, resources = _base(config).corpus, _base(config).resources
    from raystt.cluster.start import ray_session
    from raystt.preparation.prepare import fit, prepare
    from raystt.progress import StageProgress

    with StageProgress() as progress, ray_session(resources, pools=False):
        if options.stage:
            fit(options.stage, corpus, resources=resources, progress=progress)
            print(f"{corpus.path}: {options.stage} fitted; go on without --fit-{options.stage}")
            return DONE
        card = prepare(corpus, resources=resources, progress=progress)
    if options.json:
        from dataclasses import asdict

        print(json.dumps(asdict(card), indent=1))
    else:
        print(f"{corpus.path}: prepared, fingerprint {card.fingerprint}")
        for language, splits in card.languages.items():
            counts = ", ".join(
                f"{name} {split.pairs} pairs ({split.source_hours * 60:.0f} min)"
                for name, split in splits.items()
            )
            print(f"  {language}: {counts}")
        bad = sum(split.quarantined for s in card.languages.values() for split in s.values())
        if bad:
            print(f"  {bad} rows were left out, see {corpus.path}/quarantine.jsonl")
    return DONE


def _base(config: RunConfig | SearchConfig) -> Any:
    return config.base if isinstance(config, SearchConfig) else config


def _check(options: argparse.Namespace) -> int:
    from raystt.checking import check

    report = check(options.config)
    print(json.dumps(report.as_dict(), indent=1) if options.json else report.render())
    return DONE


def _train(options: argparse.Namespace) -> int:
    run = load_run(options.config)
    directory = _run_directory(run)
    if directory.joinpath("config.yaml").exists() and not options.resume:
        raise FileExistsError(
            f"{directory}: holds a run already; continue it with --resume, delete the directory, "
            "or give this run another `name`"
        )
    from raystt.cluster.start import ray_session
    from raystt.pools.single import evaluate_model, train_run
    from raystt.preparation.prepare import prepare
    from raystt.progress import StageProgress

    directory.mkdir(parents=True, exist_ok=True)
    directory.joinpath("config.yaml").write_text(to_yaml(run))
    with StageProgress() as progress, ray_session(run.resources):
        prepare(run.corpus, resources=run.resources, progress=progress)
        corpus = Path(run.corpus.path).resolve()
        trained = train_run(
            run, corpus, directory, lambda step: progress("train", step.step, step.horizon)
        )
        if trained.status == "diverged":
            print(f"raystt: the loss diverged at step {trained.diverged_at}", file=sys.stderr)
            return FAILED
        link = directory / "model"
        link.unlink(missing_ok=True)
        link.symlink_to(trained.model)
        scores = [
            evaluate_model(run, corpus, link, split, directory / f"hypotheses-{split}.jsonl")
            for split in dict.fromkeys([run.evaluation.split, run.evaluation.report_split])
        ]
    _print_scores(scores, options.json)
    return DONE


def _run_directory(run: RunConfig) -> Path:
    return Path(run.storage).resolve() / run.name


def _print_scores(scores: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(scores, indent=1))
        return
    for score in scores:
        low, high = score["ci"]
        print(
            f"{score['language']} {score['split']}: ASR-BLEU {score['asr_bleu']:.1f} "
            f"[{low:.1f}, {high:.1f}] on {score['sentences']} sentences\n"
            f"  {_beside(score)}\n  {score['signature']}\n  {score['model']}"
        )


def _beside(score: dict[str, Any]) -> str:
    """Return what stands beside a score: the other metrics, and what reference speech scores."""
    metrics = [f"{name} {value:.1f}" for name, value in score["metrics"].items()]
    best = score["ceiling"]["resynthesis"]
    low, high = best["ci"]
    ceiling = f"ceiling (reference units) {best['asr_bleu']:.1f} [{low:.1f}, {high:.1f}]"
    return ", ".join([*metrics, ceiling])


def _evaluate(options: argparse.Namespace) -> int:
    run = load_run(options.config)
    directory = _run_directory(run)
    model = (options.model or directory / "model").resolve()
    if not (model / "config.json").exists():
        raise FileNotFoundError(f"{model}: no model there; train the run first, or name --model")
    from raystt.cluster.start import ray_session
    from raystt.corpus.card import Card
    from raystt.pools.single import evaluate_model

    corpus = Path(run.corpus.path).resolve()
    Card.load(corpus)
    split = options.split or run.evaluation.split
    with ray_session(run.resources):
        score = evaluate_model(run, corpus, model, split, directory / f"hypotheses-{split}.jsonl")
    _print_scores([score], options.json)
    return DONE


def _search(options: argparse.Namespace) -> int:
    search = load_search(options.config)
    from raystt.checking import check
    from raystt.searching.directory import RunDirectory

    check(options.config)
    with RunDirectory(search, resume=options.resume, overwrite=options.overwrite) as directory:
        summary = directory.finished_summary()
        if summary is None:
            from raystt.progress import SearchProgress, StageProgress
            from raystt.searching.run import run_search

            with StageProgress() as stages, SearchProgress(search.name) as progress:
                summary = run_search(
                    search,
                    directory,
                    on_prepare=stages,
                    on_progress=progress.update,
                    on_message=progress.message,
                )
        _write_report(directory.path, summary, options.json)
    return DONE if summary["trials"] >= search.total_trials else FAILED


def _report(options: argparse.Namespace) -> int:
    directory = options.config
    if not (directory / "config.yaml").exists():
        raise FileNotFoundError(
            f"{directory}: no run there (config.yaml is missing); give a directory that "
            "`raystt search` wrote, such as runs/quickstart"
        )
    from raystt.searching.summary import summarise_search

    search = load_search(directory / "config.yaml")
    _write_report(directory, summarise_search(search, directory), options.json)
    return DONE


def _write_report(directory: Path, summary: dict[str, Any], as_json: bool) -> None:
    from rich.console import Console

    from raystt.files import write_atomic
    from raystt.report.figures import draw_schedules
    from raystt.report.tables import markdown, terminal
    from raystt.results import read

    pairs = {name: entry["pairs"] for name, entry in summary["languages"].items()}
    figures = draw_schedules(
        read(directory / "results.jsonl"), directory / "report",
        split=summary["split"], pairs=pairs, title=summary["name"],
    )  # fmt: skip
    write_atomic(directory / "report" / "table.md", markdown(summary))
    if as_json:
        print(json.dumps(summary, indent=1))
        return
    console = Console()
    console.print(terminal(summary))
    console.print(f"overhead: {summary['overhead_s_per_trial']:.2f} s a trial", highlight=False)
    console.print(f"summary:  {directory / 'summary.json'}", soft_wrap=True, highlight=False)
    console.print(f"figure:   {figures[0]}", soft_wrap=True, highlight=False)
    console.print(f"configs:  {directory / 'best'}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
