"""What a session of Ray lets reach the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import logging
import sys
from raystt.cluster.start import ray_session
from raystt.config import ResourcesConfig

resources = ResourcesConfig(cpus=1)
with ray_session(resources, pools=False, verbose=True):
    import ray

    def work():
        print("the loss is 2.5")

    with ray_session(resources, pools=False):
        ray.get(ray.remote(work).remote())
    assert logging.getLogger("ray.tune").level == logging.INFO
    sys.stdin.read()  # what a worker prints takes a moment to come here
"""


@pytest.mark.slow
def test_verbose_lets_a_print_of_a_worker_reach_the_terminal() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        assert any("the loss is 2.5" in line for line in process.stdout)
    finally:
        process.stdin.close()
    assert process.wait() == 0
