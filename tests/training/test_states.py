"""States on disk: whole or not there, verified when used, damaged ones made again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystt.training.jobs import SegmentResult, StateLost
from raystt.training.states import (
    discard,
    drop_engine,
    engine_of,
    find,
    model_of,
    partial_of,
    publish,
    sweep,
)

WEIGHTS, SHARD = "model/model.safetensors", "engine/engine/rank_0.pt"


def result(state: Path, **changes) -> SegmentResult:
    return replace(
        SegmentResult(str(state), "complete", 0, 3, 1.5, 0.5, 100, 2.25, 0.5, 0.25), **changes
    )


def written(state: Path, **files: str) -> Path:
    """Write what a segment exports and return where."""
    partial = partial_of(state)
    contents = {WEIGHTS: "w" * 100, "model/tokenizer/vocab": "v", SHARD: "s" * 200, **files}
    for name, text in contents.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_text(text)
    return partial


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A finished state."""
    state = tmp_path / "states" / "abc"
    publish(written(state), state, result(state))
    return state


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_published_is_found(state: Path) -> None:
    assert names(state.parent) == ["abc"]
    assert names(state) == ["done.json", "engine", "model"]
    told: list[str] = []
    assert find(state, told.append) == result(state, reused=True) and not told
    assert model_of(state) == state / "model" and engine_of(state) == state / "engine"
    files = json.loads((state / "done.json").read_text())["files"]
    assert {name: entry["size"] for name, entry in files.items()} == {
        WEIGHTS: 100, "model/tokenizer/vocab": 1, SHARD: 200,
    }  # fmt: skip
    assert find(state.parent / "other") is None


def test_a_moved_state_is_where_it_is(state: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "abc"
    shutil.move(state.parent, moved.parent)
    assert find(moved) == result(moved, reused=True)


def test_a_divergence_has_no_files(tmp_path: Path) -> None:
    state = tmp_path / "abc"
    partial = partial_of(state)
    partial.mkdir()
    publish(partial, state, result(state, status="diverged", loss=float("nan"), diverged_at=2))
    found = find(state)
    assert found is not None and found.diverged_at == 2 and found.loss != found.loss


def edited(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(state: Path) -> None:
        done = json.loads((state / "done.json").read_text())
        change(done)
        (state / "done.json").write_text(json.dumps(done))

    return edit


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda state: (state / name).write_bytes((state / name).read_bytes()[:size])


def swapped(name: str) -> Callable[[Path], None]:
    """Put a directory where a file should be."""

    def swap(state: Path) -> None:
        (state / name).unlink()
        (state / name).mkdir()

    return swap


def replaced(state: Path) -> None:
    shutil.rmtree(state)
    state.write_text("a file")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights cut": (cut(WEIGHTS, 10), f"{WEIGHTS} has 10 bytes instead of 100"),
    "weights emptied": (cut(WEIGHTS, 0), f"{WEIGHTS} has 0 bytes"),
    "other weights": (lambda s: (s / WEIGHTS).write_text("w" * 99 + "x"), f"{WEIGHTS} is not what"),
    "a folder for weights": (swapped(WEIGHTS), WEIGHTS),
    "no model": (lambda s: shutil.rmtree(s / "model"), "model/model.safetensors is missing"),
    "a file for the model": (
        lambda s: (shutil.rmtree(s / "model"), (s / "model").write_text("")),
        f"{WEIGHTS} is missing",
    ),
    "shard cut": (cut(SHARD, 199), f"{SHARD} has 199 bytes instead of 200"),
    "shard gone": (lambda s: (s / SHARD).unlink(), f"{SHARD} is missing"),
    "no engine": (lambda s: shutil.rmtree(s / "engine"), f"{SHARD} is missing"),
    "no result": (lambda s: (s / "done.json").unlink(), "done.json is missing"),
    "a folder for the result": (swapped("done.json"), "done.json is missing"),
    "empty result": (cut("done.json", 0), "done.json: Invalid JSON"),
    "cut result": (cut("done.json", 100), "done.json: Invalid JSON"),
    "no JSON": (lambda s: (s / "done.json").write_bytes(b"\xff\x00"), "done.json: Invalid JSON"),
    "another JSON": (lambda s: (s / "done.json").write_text("[1]"), "done.json: "),
    "a field more": (edited(lambda done: done.update(new=1)), "done.json: new: "),
    "a field less": (edited(lambda done: done.pop("tokens")), "done.json: tokens: "),
    "a field of another type": (edited(lambda done: done.update(loss="2")), "done.json: loss: "),
    "no list of files": (edited(lambda done: done.pop("files")), "done.json: files: "),
    "empty list of files": (edited(lambda done: done.update(files={})), "done.json lists no model"),
    "a file for all": (replaced, "done.json is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_discarded_and_made_again(state: Path, damage: str) -> None:
    inflict, text = DAMAGES[damage]
    inflict(state)
    told: list[str] = []
    assert find(state, told.append) is None
    (message,) = told
    assert message.startswith(f"{state}: ") and text in message
    assert names(state.parent) == []
    publish(written(state), state, result(state))
    assert find(state) == result(state, reused=True)


@pytest.mark.parametrize("damage", [*DAMAGES, "gone"])
def test_what_is_needed_and_damaged_is_lost(state: Path, damage: str) -> None:
    inflict, text = DAMAGES.get(damage, (discard, "gone"))
    inflict(state)
    of_engine = SHARD in text
    with pytest.raises(StateLost) as lost:
        (engine_of if of_engine else model_of)(state)
    assert lost.value.state == str(state) and text in str(lost.value)
    assert names(state.parent) == []


def test_a_part_is_lost_only_by_its_own_damage(state: Path) -> None:
    cut(WEIGHTS, 10)(state)
    assert engine_of(state) == state / "engine"
    publish(written(state), state, result(state))  # not in the way of a whole one
    cut(SHARD, 10)(state)
    assert model_of(state) == state / "model"


@pytest.mark.slow
@given(text=st.binary() | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["state", "status", "files", "loss"]) | st.text(), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_done_json_is_a_result_or_damage(text: bytes) -> None:
    with TemporaryDirectory() as folder:
        state = Path(folder) / "abc"
        state.mkdir()
        (state / "done.json").write_bytes(text)
        told: list[str] = []
        assert find(state, told.append) is None
        assert len(told) == 1 and names(Path(folder)) == []


def test_an_engine_dropped_on_purpose_is_no_damage(state: Path) -> None:
    kept = shutil.copytree(state / "engine", state.parent.parent / "engine")
    for _ in range(2):
        drop_engine(state)
        assert names(state) == ["done.json", "model"]
        assert find(state) == result(state, reused=True) and model_of(state)
    shutil.copytree(kept, state / "engine")  # as if killed before it was deleted
    assert find(state) == result(state, reused=True)
    sweep(state.parent)
    assert names(state) == ["done.json", "model"]
    with pytest.raises(StateLost, match="no engine"):
        engine_of(state)
    assert names(state.parent) == []
    drop_engine(state)  # of what is gone: nothing to do
    assert names(state.parent) == []


def test_dropping_hides_no_damage(state: Path) -> None:
    cut("done.json", 100)(state)
    drop_engine(state)
    assert find(state) is None


def test_the_first_of_equal_states_stays(state: Path) -> None:
    again = written(state)
    publish(again, state, result(state, seconds=9.0))
    assert find(state) == result(state, reused=True)
    cut(WEIGHTS, 10)(state)
    publish(written(state), state, result(state, seconds=9.0))
    assert find(state) == result(state, seconds=9.0, reused=True)
    assert names(state.parent) == ["abc"]


def test_states_published_side_by_side(tmp_path: Path) -> None:
    state = tmp_path / "abc"
    partials = [written(state) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda partial: publish(partial, state, result(state)), partials))
    assert names(tmp_path) == ["abc"] and find(state) == result(state, reused=True)


def test_what_cannot_be_published_leaves_nothing(state: Path) -> None:
    partial = written(state)
    (partial / "done.json").mkdir()
    (partial / "done.json" / "x").touch()
    with pytest.raises(OSError):
        publish(partial, state, result(state))
    assert names(state.parent) == ["abc"]


def test_sweeping(state: Path) -> None:
    (state.parent / "def.1.partial" / "model").mkdir(parents=True)
    (state.parent / "ghi.2.partial").touch()
    sweep(state.parent)
    assert names(state.parent) == ["abc"] and find(state) == result(state, reused=True)
    cut("done.json", 100)(state)
    sweep(state.parent)
    assert names(state) == ["done.json", "engine", "model"]  # left for `find` to tell
    sweep(state.parent / "nothing")
