"""The parts by which other tests know a message."""

from __future__ import annotations

from messages import tells


def test_parts_are_looked_for_in_order() -> None:
    message = "a.yaml:1: steps: 0 is under 1; give 5"
    assert tells(message, "a.yaml:1: steps: …0…under 1…give")
    for parts in ("yaml:1: steps: ", "a.yaml:1: steps: …under 1…0", "a.yaml:1: steps: …over"):
        assert not tells(message, parts)
