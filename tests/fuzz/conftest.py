"""The summary of the fuzz tests, and a way out for what is said while pytest captures."""

from __future__ import annotations

import os

import pytest

from tests.fuzz import harness


def pytest_configure(config: pytest.Config) -> None:
    """Keep the terminal's own standard error."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        with capture.global_and_fixture_disabled():
            harness.STDERR[0] = os.fdopen(os.dup(2), "w")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many inputs each reader had, and what became of them."""
    for reader, count in harness.COUNTS.items() if harness.MANY else ():
        lost = count["inputs"] - count["read"] - count["refused"]
        terminalreporter.write_line(
            f"fuzz: {reader}: {count['inputs']} inputs, {count['read']} read, "
            f"{count['refused']} refused, {lost} neither"
        )
