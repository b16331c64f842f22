"""Messages, tested by their parts: place and key, what is wrong, and the fix."""

from __future__ import annotations


def tells(message: str, parts: str) -> bool:
    """Whether `message` begins with the first of the parts (between …) and has all, in order."""
    first, *others = parts.split("…")
    rest = message.removeprefix(first)
    if rest == message:
        return False
    for part in others:
        _, found, rest = rest.partition(part)
        if not found:
            return False
    return True
