"""The documents: their commands run or say what they need, their messages and links are real."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from recordings import manifest_tree, speak

import raystt
from raystt.arguments import parser
from raystt.cli import main
from raystt.config import load_run, load_search

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(page: Path, *, marked: bool) -> list[str]:
    """Return the commands of a page: those that a test runs, or also those marked with a need."""
    found = []
    for block in blocks(page, "bash"):
        lines = [line for line in block.splitlines() if line.strip()]
        needs = lines[0].startswith("# needs ")
        for line in lines[needs:]:
            command, _, comment = line.partition("#")
            if marked or not (needs or comment.strip().startswith("needs ")):
                found.append(command.strip())
    return found


ALL = [(page, command) for page in PAGES for command in commands(page, marked=True)]


@pytest.mark.parametrize(("page", "command"), ALL, ids=[f"{p.stem}: {c}" for p, c in ALL])
def test_a_command_could_be_typed(page: Path, command: str) -> None:
    words = shlex.split(command)
    if words[0].removeprefix(".venv/bin/") == "raystt" and "--print-completion" not in words:
        if ">" in words:
            words = words[: words.index(">")]
        parser().parse_args(words[1:])  # exits where it cannot
    if words[0] == "cluster/submit.sh":
        if "--" in words:
            words = words[words.index("--") :]
        parser().parse_args(["search", *words[1:]])
    for word in words:
        if re.match(r"(search_spaces|cluster|docs)/", word):
            assert (ROOT / word).is_file(), f"{page}: there is no {word}"


def test_every_verb_is_shown() -> None:
    shown = {command.split()[1] for _, command in ALL if command.startswith("raystt ")}
    verbs = {"prepare", "check", "train", "search", "evaluate", "translate", "report", "dashboard"}
    verbs |= {"export"}
    assert shown - {"--print-completion"} == verbs | {"schema"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(((?!http)[^)#\s]+)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_configs_are_valid(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page, "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        (load_search if "base:" in block else load_run)(path)


MESSAGES = re.findall(
    r"^\*\*`([^`]+)`", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE
)


def _plain(text: str) -> str:
    """Return a text without what code puts into its strings: breaks, quotes, values."""
    joined = re.sub(r'"\s*\n\s*f?"', "", text)
    return re.sub(r"\{[^{}]*\}", "…", joined)


SOURCES = [_plain(path.read_text(encoding="utf-8")) for path in (ROOT / "raystt").rglob("*.py")]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_that_is_printed(message: str) -> None:
    pattern = ".{0,80}".join(re.escape(part) for part in message.split("…"))
    assert any(re.search(pattern, source) for source in SOURCES)


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 15


def _run(command: str) -> None:
    """Run a command of a page here, where its files are."""
    words = shlex.split(command)
    if words[0] == "cp":
        Path(words[2]).write_text(Path(words[1]).read_text())
        return
    assert words[0] == "raystt", command
    output = words[words.index(">") + 1] if ">" in words else None
    arguments = words[1 : words.index(">")] if output else words[1:]
    try:
        code = main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 0, command


def _reduced(path: Path, **changes: Any) -> None:
    """Have less of everything in a config: what a command does is the same."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config |= {"trials": 3, "confirm": {"top": 1, "seeds": 2}, "references": ["none", "paper"]}
    base = config["base"]
    base["training"] = {"steps": 6, "batch_utterances": 4, "learning_rate": 1.0e-3}
    base["resources"] = {"cpus": 2, "trainers": 1, "evaluators": 1}
    base["corpus"] |= changes.pop("corpus", {})
    base |= changes
    path.write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to be in, with the searches and the cluster's files of the repository."""
    pytest.importorskip("espeakng_loader")
    for name in ("search_spaces", "cluster"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
def test_the_guide_and_the_python_face(
    here: Path, ray_local: str, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write("in.wav", speak("la puerta está abierta", "es"), 16000)
    for command in commands(ROOT / "docs/guide.md", marked=False):
        _run(command)
        if command.startswith("cp "):
            sizes = {"es": {"train": 24, "dev": 4, "test": 4}}
            _reduced(Path("mine.yaml"), corpus={
                "languages": sizes, "text_pairs": 40, "units": {"source": 12, "target": 16},
                "vocoder": {"steps": 5},
                "base": {"layers": 1, "hidden": 32, "heads": 2, "steps": 5},
            }, evaluation={"max_new_tokens": 24})  # fmt: skip
    assert main(["translate", "mine-es-en", "in.wav", "-o", "again.wav"]) == 0
    assert Path("again.wav").read_bytes() == Path("out.wav").read_bytes()
    assert "es: the search's best" in capsys.readouterr().out

    run = raystt.open_run("runs/first")
    for block in blocks(ROOT / "docs/python.md", "python"):
        if "raystt.search(" in block:  # what it gives was just made
            continue
        exec(compile(block, "docs/python.md", "exec"), {"run": run, "raystt": raystt})


@pytest.mark.long
def test_recordings_of_ones_own(here: Path, ray_local: str) -> None:
    from pretrained import hifigan, llama, w2v_bert, whisper
    from recordings import sentences

    tsv = manifest_tree(here, sizes={"es": {"train": 12, "dev": 3, "test": 2}})
    tsv.rename("recordings.tsv")
    first = here / sorted(Path("audio/es").glob("train-*"))[0]
    Path("es").mkdir()
    soundfile.write("es/0001.wav", *soundfile.read(first))
    Path("mine.yaml").write_text(blocks(ROOT / "docs/recordings.md", "yaml")[0])
    texts = [text for pair in sentences("es", "train", 12, 0) for text in pair]
    model = llama(here / "llama", texts)
    given = yaml.safe_load(Path("mine.yaml").read_text())["base"]["corpus"]
    _reduced(
        Path("mine.yaml"),
        corpus={
            "units": given["units"] | {
                "encoder": w2v_bert(here / "w2v-bert"), "layer": 1, "source": 32,
            },
            "finetune": {"steps": 3, "batch_seconds": 8.0}, "tokenizer": model,
            "vocoder": {"model": hifigan(here / "hifigan"), "steps": 3},
            "quality": {"max_quarantined": 0.9},
        },
        model={"base": model},
        evaluation={
            "asr": "whisper", "asr_model": str(whisper(here / "whisper")), "max_new_tokens": 24,
        },
    )  # fmt: skip
    for command in commands(ROOT / "docs/recordings.md", marked=False):
        _run(command)
    assert Path("translated.wav").exists()
