"""The command line as it is parsed, and what `--help` says of it."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import TypeAlias

import shtab

from raystt import __version__

_CODES = (
    "exit codes:\n  0 done   1 failed   2 bad input: the message says what to mend\n"
    "  130 interrupted   143 terminated"
)

_Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parser() -> argparse.ArgumentParser:
    """Return the parser; what it parses has the name of the verb in `verb`."""
    made = argparse.ArgumentParser(
        prog="raystt",
        description="Search how text should give way to speech while an LLM learns to translate "
        "speech.",
        epilog=_epilog(
            "raystt search search_spaces/first.yaml",
            "raystt translate runs/first in.wav -o out.wav",
            "raystt VERB --help",
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"raystt {__version__}")
    shtab.add_argument_to(
        made, ["--print-completion"], help="print what completes these commands in a shell"
    )
    verbs = made.add_subparsers(title="verbs", required=True, metavar="VERB", dest="verb")
    for add in (
        _check, _prepare, _search, _report, _dashboard, _train, _evaluate, _translate, _export,
        _schema,
    ):  # fmt: skip
        add(verbs)
    return made


def _verb(
    verbs: _Verbs, name: str, said: str, *examples: str, more: str = ""
) -> argparse.ArgumentParser:
    """Add a verb: what it does in a sentence, what else is to be known, and examples."""
    verb = verbs.add_parser(
        name, help=said, description=_filled(said) + (f"\n\n{_filled(more)}" if more else ""),
        epilog=_epilog(*examples), formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    verb.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    verb.set_defaults(json=False)
    return verb


def _filled(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 78)


def _epilog(*examples: str) -> str:
    return "\n".join(["examples:", *(f"  {one}" for one in examples), "", _CODES])


def _file(verb: argparse.ArgumentParser, metavar: str, text: str) -> None:
    verb.add_argument("config", type=Path, metavar=metavar, help=text).complete = (  # type: ignore[attr-defined]
        shtab.FILE
    )


def _json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print the result as JSON")


def _on_ray(verb: argparse.ArgumentParser) -> None:
    _infra(verb)
    verb.add_argument(
        "--verbose", action="store_true", help="let what workers print reach the terminal"
    )


def _infra(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--infra", type=Path, metavar="FILE.yaml",
        help="where to run: `resources` in place of the config's, and the `root` of its relative "
        "paths, such as cluster/infra/2x8.yaml",
    ).complete = shtab.FILE  # type: ignore[attr-defined]  # fmt: skip


def _check(verbs: _Verbs) -> None:
    verb = _verb(
        verbs, "check", "Check a run or a search, and print what it would do.",
        "raystt check search_spaces/quickstart.yaml",
        "raystt check search_spaces/cvss.yaml --infra cluster/infra/2x8.yaml",
        "RAY_ADDRESS=auto raystt check mine.yaml --cluster",
        more="Starts nothing. Every mistake is a line FILE:LINE: key: reason; fix. Without any, "
        "the trials, schedules, hours, memory and disk are printed, with what was assumed.",
    )  # fmt: skip
    _file(verb, "CONFIG.yaml", "a search (with `base`), or a run")
    _json(verb)
    _infra(verb)
    verb.add_argument(
        "--cluster", action="store_true",
        help="join the cluster that it would run on, and print what its pools become there",
    )  # fmt: skip


def _prepare(verbs: _Verbs) -> None:
    verb = _verb(
        verbs, "prepare", "Prepare the corpus of a run or a search.",
        "raystt prepare search_spaces/quickstart.yaml",
        "raystt prepare search_spaces/cvss.yaml --fit-encoder",
        more="Recordings become speech units, aligned with their words, in Parquet shards; models "
        "that the config names are fitted to them. It goes on where it stopped, and sets bad "
        "rows aside in quarantine.jsonl with a reason. `search` and `train` do this by "
        "themselves.",
    )  # fmt: skip
    _file(verb, "CONFIG.yaml", "a search or a run; its `corpus` is prepared")
    _json(verb)
    stages = verb.add_mutually_exclusive_group()
    for stage, text in (
        ("encoder", "fine-tune the unit encoder with CTC (corpus.finetune), and stop"),
        ("units", "fit the k-means codebooks (corpus.units), and stop"),
        ("vocoder", "fit the vocoder (corpus.vocoder), and stop"),
    ):
        stages.add_argument(
            f"--fit-{stage}", action="store_const", const=stage, dest="stage",
            help=text + "; makes first what that needs",
        )  # fmt: skip
    _on_ray(verb)


def _search(verbs: _Verbs) -> None:
    verb = _verb(
        verbs, "search", "Search schedules: one study a language, references first.",
        "raystt search search_spaces/first.yaml",
        "raystt search search_spaces/first.yaml --resume",
        "raystt search mine.yaml --infra cluster/infra/1x8.yaml",
        more="Prepares the corpus, trains and scores the references and what the sampler "
        "proposes, trains what leads again on fresh seeds, and says whether it is better than the "
        "paper's schedule. Everything is in <storage>/<name>/: report/index.html to look at and "
        "listen to, results.csv, best/<language>/. Whatever stops it, the same command with "
        "--resume goes on.",
    )  # fmt: skip
    _file(verb, "SPACE.yaml", "the search: languages, trials, space, base run")
    _json(verb)
    verb.add_argument(
        "--resume", action="store_true",
        help="go on with a search that was stopped; finished trials are not repeated",
    )  # fmt: skip
    verb.add_argument(
        "--overwrite", action="store_true", help="delete what is in the directory of the search"
    )
    _on_ray(verb)


def _report(verbs: _Verbs) -> None:
    verb = _verb(
        verbs, "report", "Print the table of a search and write its report.",
        "raystt report runs/first",
        more="report/index.html is one page to look at and listen to, report/table.md its tables. "
        "Works while the search runs, too, which writes them by itself.",
    )  # fmt: skip
    _run_directory(verb)
    _json(verb)


def _dashboard(verbs: _Verbs) -> None:
    verb = _verb(
        verbs, "dashboard", "Show a search in optuna-dashboard and TensorBoard.",
        "raystt dashboard runs/first",
        more="On this machine alone; prints their addresses, and Ray's if it is up. Ctrl-C ends "
        "them. Needs raystt[dashboard].",
    )  # fmt: skip
    _run_directory(verb)
    verb.add_argument(
        "--port", type=int, default=0, help="first of two ports in a row (default: free ones)"
    )


def _run_directory(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "config", type=Path, metavar="RUN_DIRECTORY", help="<storage>/<name> of a search"
    ).complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def _train(verbs: _Verbs) -> None:
    verb = _verb(
        verbs, "train", "Train one run and evaluate it.",
        "raystt train runs/first/best/es/config.yaml",
        "raystt train mine.yaml --local",
        more="Leaves the model in <storage>/<name>/model, a directory for transformers, and "
        "prints its scores on evaluation.split and evaluation.report_split.",
    )  # fmt: skip
    _file(verb, "RUN.yaml", "the run")
    _json(verb)
    verb.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    verb.add_argument(
        "--local", action="store_true",
        help="in this process, without Ray, for a debugger; the corpus must be prepared",
    )  # fmt: skip
    _on_ray(verb)


def _evaluate(verbs: _Verbs) -> None:
    verb = _verb(
        verbs, "evaluate", "Score a trained model.",
        "raystt evaluate runs/first/best/es --split test",
        "raystt evaluate mine.yaml --model elsewhere/model",
        more="Generates, speaks, transcribes and compares each sentence of a split, and prints "
        "ASR-BLEU with its 95 % interval, signature and ceiling.",
    )  # fmt: skip
    _file(verb, "RUN.yaml|DIRECTORY", "a run, or a directory with config.yaml and model/")
    _json(verb)
    verb.add_argument(
        "--model", type=Path, help="model directory (default: the one that `train` left)"
    ).complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    verb.add_argument("--split", choices=["dev", "test"], help="default: evaluation.split")
    _on_ray(verb)


def _translate(verbs: _Verbs) -> None:
    verb = _verb(
        verbs, "translate", "Translate a recording: speech in, speech out.",
        "raystt translate runs/first in.wav -o out.wav",
        "raystt translate runs/quickstart in.flac -o out.mp3 --language es",
        more="Any rate and format that libsndfile reads. Prints what the recogniser heard in the "
        "translation, and the texts of a chain of thought. Runs in this process, without Ray.",
    )  # fmt: skip
    _file(verb, "MODEL_OR_RUN", "a trained run, runs/NAME/best/LANG, a search, or an export")
    _json(verb)
    verb.add_argument(
        "audio", type=Path, metavar="IN.wav", help="the recording"
    ).complete = shtab.FILE  # type: ignore[attr-defined]
    verb.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT.wav",
        help="where the translation goes; .wav, .flac, .mp3 or .ogg",
    )  # fmt: skip
    verb.add_argument("--language", help="the one spoken; a search of several needs it")


def _export(verbs: _Verbs) -> None:
    verb = _verb(
        verbs, "export", "Write a trained model as one directory that translates by itself.",
        "raystt export runs/first mine-es-en",
        "hf upload NAME/mine-es-en mine-es-en",
        more="Model and tokenizer as transformers loads them, what was fitted to its corpus to "
        "hear and speak with, the config it was trained by, and a card with schedule, data and, "
        "of a search, scores: the layout of the hub. Models that the config names on the hub are "
        "taken from there.",
    )  # fmt: skip
    _file(verb, "MODEL_OR_RUN", "a trained run, runs/NAME/best/LANG, or a search")
    verb.add_argument(
        "output", type=Path, metavar="DIRECTORY", help="what to write"
    ).complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    verb.add_argument("--language", help="the one spoken; a search of several needs it")


def _schema(verbs: _Verbs) -> None:
    _verb(
        verbs, "schema", "Print the JSON Schema of the configs, for editors.",
        "raystt schema > raystt.schema.json",
        more="An editor that knows YAML schemas completes and explains each key. For those with "
        "the YAML language server, the first line of a config names it: "
        "# yaml-language-server: $schema=raystt.schema.json",
    )  # fmt: skip
