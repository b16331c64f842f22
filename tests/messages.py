"""Messages, tested by their parts: place and key, what is wrong, and the fix."""

from __future__ import annotations

import re


def tells(message: str, parts: str) -> bool:
    """Whether `message` begins with the first of the parts (between …) and has all, in order."""
    pattern = ".*".join(map(re.escape, parts.split("…")))
    return re.match(pattern, message, re.DOTALL) is not None
