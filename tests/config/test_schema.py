"""The JSON Schema for editors: what raystt takes it takes, and it refuses what people mistype."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from raystt.cli import main
from raystt.config import ConfigError, load_any, load_search, to_yaml
from raystt.config.yaml_source import parse, read

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*ROOT.glob("search_spaces/*.yaml"), *ROOT.glob("cluster/infra/*.yaml")])


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> jsonschema.Draft202012Validator:
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
        assert main(["schema"]) == 0
    schema = json.loads("".join(printed))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_shipped_is_valid(path: Path, validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(read(path).data)


def test_what_a_search_writes_down_is_valid(validator: jsonschema.Draft202012Validator) -> None:
    search = load_search(ROOT / "search_spaces/shapes.yaml")
    validator.validate(parse(to_yaml(search)).data)
    validator.validate(parse(to_yaml(search.run_for("es", {}))).data)


def test_a_file_that_was_just_begun_is_a_search(
    validator: jsonschema.Draft202012Validator,
) -> None:
    messages = [error.message for error in validator.iter_errors({"name": "mine"})]
    assert any("'languages' is a required property" in message for message in messages)
    validator.validate({"root": "/mnt", "resources": "auto"})


MISTYPED = [
    ("trails", "Additional properties are not allowed ('trails' was unexpected)"),
    ("base.training.steps", "0 is less than the minimum of 1"),
    ("base.schedule.shape", "'linear' was expected"),
    ("space.schedule.end.float", "'0.5' is not of type 'number'"),
]


@pytest.mark.parametrize(("key", "said"), MISTYPED, ids=[key for key, _ in MISTYPED])
def test_a_mistake_is_refused_by_both(
    key: str, said: str, tmp_path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    text = (ROOT / "search_spaces/first.yaml").read_text()
    wrong = {
        "trails": text.replace("trials: 4", "trails: 4"),
        "base.training.steps": text.replace("steps: 160", "steps: 0"),
        "base.schedule.shape": text + "  schedule: {shape: linaer}\n",
        "space.schedule.end.float": text.replace("[0.5, 1.0]", "['0.5', 1.0]"),
    }[key]
    path = tmp_path / "wrong.yaml"
    path.write_text(wrong)
    with pytest.raises(ConfigError, match=key.partition(".")[0]):
        load_any(path)
    messages = [text for error in validator.iter_errors(read(path).data) for text in _all(error)]
    assert any(said in message for message in messages), messages


def _all(error: Any) -> list[str]:
    return [error.message, *(text for below in error.context for text in _all(below))]
