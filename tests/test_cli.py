"""The command line: exit codes, help, and what reaches the terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from psutil import Process, wait_procs
from tiny import tiny_search

from raystt import api, runs
from raystt.cli import main
from raystt.config import to_yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(to_yaml(tiny_search(tmp_path)))
    return path


VERBS = [
    "check", "prepare", "search", "report", "dashboard", "train", "evaluate", "translate",
    "export", "schema",
]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_a_verb_does(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    usage, said, more, *_ = text.split("\n\n")
    assert f"raystt {verb} [-h]" in usage and said.endswith(".") and more.endswith((".", ".json"))
    assert f"  raystt {verb}" in text.partition("examples:\n")[2] and "exit codes:" in text
    (options,) = [part for part in text.split("\n\n") if part.startswith("options:")]
    for option in re.split(r"\n  (?=-)", options)[1:]:
        assert re.search(r"\S\s{2,}\w", option), f"nothing is said of {option}"


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("se", "search"),
        ("search --inf", "--infra"),
        ("search search_spaces/fir", "search_spaces/first.yaml"),
        ("evaluate --split ''", "dev test"),
    ],
)
def test_a_shell_completes_the_commands(
    words: str, completed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", "bash"])
    assert stop.value.code == 0
    script = tmp_path / "completion.bash"
    script.write_text(
        capsys.readouterr().out
        + f"COMP_WORDS=(raystt {words})\n"
        + "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
        + "_shtab_raystt raystt\n"
        + 'echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == completed.split(), done.stderr


def test_check_prints_a_report(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(space)]) == 0
    assert "trials" in capsys.readouterr().out
    assert main(["check", str(space), "--json"]) == 0
    json.loads(capsys.readouterr().out)


def test_bad_input_is_exit_code_2(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space.write_text(space.read_text().replace("trials:", "trails:"))
    for verb in ("check", "search", "prepare"):
        assert main([verb, str(space)]) == 2
        error = capsys.readouterr().err
        assert str(space) in error and "trails" in error and "trials" in error
        assert "Traceback" not in error


def test_what_only_check_sees_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = tiny_search(tmp_path)
    wrong = search.base.evaluation.model_copy(update={"asr_model": "openai/whisper-tiny"})
    base = search.base.model_copy(update={"evaluation": wrong})
    path = tmp_path / "wrong.yaml"
    for config, verbs in (
        (search.model_copy(update={"base": base}), ("search", "prepare")),
        (search.run_for("es", {}).model_copy(update={"evaluation": wrong}), ("train", "prepare")),
    ):
        path.write_text(to_yaml(config))
        for verb in verbs:
            assert main([verb, str(path)]) == 2, verb
            assert "evaluation.asr_model: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path] and not ray.is_initialized()


def test_errors_are_json_where_json_is_asked_for(
    space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = space.read_text()
    for config, key in (
        (text.replace("trials:", "trails:"), "trails"),
        (text.replace("storage: ", f"storage: {space}/"), "base.storage"),
    ):
        space.write_text(config)
        assert main(["check", str(space), "--json"]) == 2
        data = json.loads(capsys.readouterr().out)
        assert key in [problem["key"] for problem in data["problems"]]
        assert key in data["error"]


def test_what_has_no_scores_is_json_where_json_is_asked_for(
    space: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = runs.Trained(Path("runs/r/model"), 7, ())
    monkeypatch.setattr(runs, "train", lambda *_, **__: trained)
    assert main(["train", str(space), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"diverged_at": 7, "model": "runs/r/model"}
    monkeypatch.setattr(api, "prepare", lambda *_, **__: None)
    assert main(["prepare", str(space), "--fit-units", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"fitted": "units"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["search", "absent.yaml"], "absent.yaml"),
        (["report", "absent"], "config.yaml"),
        (["prepare", "absent.yaml"], "absent.yaml"),
    ],
)
def test_missing_files_are_bad_input(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert named in capsys.readouterr().err


def test_a_model_that_is_not_there_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_search(tmp_path).run_for("es", {})
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(run))
    assert main(["evaluate", str(path)]) == 2
    assert "train the run first" in capsys.readouterr().err


TERMINATED = """
import sys, time
from raystt import api, cli

def busy(config, **options):
    while True:
        try:
            print("busy", flush=True)
            time.sleep(60)
        except SystemExit:
            if sys.argv[1] != "stubborn":
                raise
            print("goes on", flush=True)

api.search = busy
sys.exit(cli.main(["search", "x.yaml"]))
"""


def started(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("manner", ["willing", "stubborn"])
def test_sigterm_ends_a_verb_with_a_hint(manner: str) -> None:
    process = started("-c", TERMINATED, manner)
    assert process.stdout is not None and process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 143
    assert err == "\nraystt: terminated; the same command with --resume goes on\n"
    assert ("goes on" in out) == (manner == "stubborn")


SEARCHING = """
import sys
from pathlib import Path
import tune_session
from tiny import tiny_search
from raystt import api, cli

tune_session.search = lambda path: tiny_search(path, trials=500, name="played")
api.search = lambda config, **options: tune_session.main(config, 0)
sys.exit(cli.main(["search", sys.argv[1]]))
"""


@pytest.mark.ray
@pytest.mark.parametrize(
    ("moment", "number", "code", "said"),
    [
        ("starting", signal.SIGTERM, 143, "terminated"),
        ("searching", signal.SIGTERM, 143, "terminated"),
        ("searching", signal.SIGINT, 130, "interrupted"),  # Ctrl-C
    ],
)
def test_a_signal_ends_a_search_and_its_ray(
    moment: str, number: signal.Signals, code: int, said: str, tmp_path: Path
) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SEARCHING, str(tmp_path)], stdout=log, stderr=log, text=True,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip

    def there() -> bool:
        if moment == "starting":  # within ray.init
            return any("gcs_server" in one.name() for one in Process(process.pid).children())
        results = tmp_path / "runs" / "played" / "results.jsonl"
        return results.exists() and results.read_text().count("\n") >= 2

    printed = tmp_path / "log"
    while not there():
        assert process.poll() is None, printed.read_text()
        time.sleep(0.05)
    below = Process(process.pid).children(recursive=True)
    process.send_signal(number)
    assert process.wait() == code, printed.read_text()
    text = printed.read_text()
    assert text.count(f"raystt: {said}; the same command with --resume goes on") == 1
    for bad in ("Traceback", "SIGABRT", "Fatal Python error", "*** "):
        assert bad not in text, text
    assert wait_procs(below, timeout=60)[1] == []


def test_what_others_print_does_not_mix_with_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Loud:
        def as_dict(self) -> dict[str, int]:
            print("(raylet) a worker has something to say")
            return {"problems": 0}

        problems = ()

    monkeypatch.setattr(api, "check", lambda config, **_: Loud())
    main(["check", str(tmp_path), "--json"])
    out, err = capsys.readouterr()
    assert json.loads(out) == {"problems": 0}
    assert "something to say" in err
