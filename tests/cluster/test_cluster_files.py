"""The files in cluster/ are what Ray, Kubernetes, Docker and Slurm take, with the tested versions.

KubeRay's own definitions are a megabyte each and are not in this repository. With
KUBERAY_CRDS=DIRECTORY the files are held against ray.io_rayclusters.yaml and ray.io_rayjobs.yaml
there (helm-chart/kuberay-operator/crds of its repository).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from raystt import __version__

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
IMAGE = f"raystt:{__version__}"
KUBERAY = {kind: CLUSTER / "kuberay" / f"{kind.lower()}.yaml" for kind in ("RayCluster", "RayJob")}


def read(name: str) -> dict[str, Any]:
    found = yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def cluster_of(kind: str) -> dict[str, Any]:
    spec = read(f"kuberay/{kind.lower()}.yaml")["spec"]
    found: dict[str, Any] = spec["rayClusterSpec"] if kind == "RayJob" else spec
    return found


@pytest.mark.parametrize("name", ["machines.yaml", "ray-cluster.yaml"])
def test_the_vm_launcher_takes_it(name: str) -> None:
    spec = find_spec("ray")
    assert spec is not None and spec.origin is not None
    place = Path(spec.origin).with_name("autoscaler") / "ray-schema.json"
    jsonschema.validate(read(name), json.loads(place.read_text()))
    types = read(name).get("available_node_types", {})
    for one in types.values():
        assert one.get("min_workers", 0) <= one.get("max_workers", 0) <= read(name)["max_workers"]
    assert not types or read(name)["head_node_type"] in types
    assert read(name).get("docker", {"image": IMAGE})["image"] == IMAGE
    for command in ("head_start_ray_commands", "worker_start_ray_commands"):
        started = [line for line in read(name)[command] if "ray start" in line]
        assert started and all("RAY_AUTH_MODE=token" in line for line in started)


@pytest.mark.parametrize("kind", KUBERAY)
def test_kubernetes_takes_its_pods(kind: str) -> None:
    spec = cluster_of(kind)
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, **group["template"]}
        kubernetes_validate.validate(pod, "1.33", strict=True)
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        for container in pod["spec"]["containers"]:
            assert container["image"] == IMAGE
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert spec["rayVersion"] == PINS["ray"]
    assert spec["authOptions"] == {"mode": "token"}
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_a_job_has_the_cluster_that_searches_are_submitted_to() -> None:
    assert cluster_of("RayJob") == cluster_of("RayCluster")
    _, module, *words = read("kuberay/rayjob.yaml")["spec"]["entrypoint"].split("-m ")[-1].split()
    assert module == "search"
    for path in (word for word in words if not word.startswith("--")):
        assert (ROOT / path).is_file(), path


@pytest.mark.skipif("KUBERAY_CRDS" not in os.environ, reason="KUBERAY_CRDS names no directory")
@pytest.mark.parametrize("kind", KUBERAY)
def test_kuberay_takes_it(kind: str) -> None:
    place = Path(os.environ["KUBERAY_CRDS"]) / f"ray.io_{kind.lower()}s.yaml"
    versions = yaml.load(place.read_text(), yaml.CSafeLoader)["spec"]["versions"]
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1"]
    given = read(f"kuberay/{kind.lower()}.yaml")
    jsonschema.validate(given, schema)
    assert list(unknown(schema, given, kind)) == []


def unknown(schema: dict[str, Any], given: Any, at: str) -> Iterator[str]:
    """Name the keys that a definition does not have: KubeRay drops them without a word."""
    if isinstance(given, list):
        for number, one in enumerate(given):
            yield from unknown(schema["items"], one, f"{at}[{number}]")
    elif isinstance(given, dict) and "properties" in schema:
        for key, value in given.items():
            if key not in schema["properties"]:
                yield f"{at}.{key}"
            else:
                yield from unknown(schema["properties"][key], value, f"{at}.{key}")


def test_the_image_has_the_tested_versions() -> None:
    lines = (CLUSTER / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert {name for name, _ in steps} <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV"}
    copied = [word for name, rest in steps if name == "COPY" for word in rest.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    (install,) = [rest for name, rest in steps if name == "RUN" and "pip install" in rest]
    assert "-c constraints.txt" in install and "constraints.txt" in copied
    extras = re.search(r"\[([a-z,]+)\]", install)
    assert extras is not None
    offered = (ROOT / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in offered for extra in extras[1].split(","))


def test_what_a_job_takes_along_can_be_told_from_the_rest() -> None:
    excluded = read("runtime_env.yaml")["excludes"]
    assert not {"raystt", "search_spaces", "cluster"} & set(excluded)
    assert {".git", ".venv", "data", "runs"} <= set(excluded)


def test_slurm_takes_its_script() -> None:
    script = CLUSTER / "slurm.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    asked = re.findall(r"^#SBATCH --([a-z-]+)", script.read_text(), re.MULTILINE)
    assert {"nodes", "gpus-per-node", "cpus-per-task", "time", "requeue"} <= set(asked)
    assert len(asked) == len(set(asked))
    if shutil.which("sbatch"):
        subprocess.run(["sbatch", "--test-only", script], check=True, cwd=ROOT)


def test_submit_says_how_it_is_called() -> None:
    done = subprocess.run([CLUSTER / "submit.sh"], capture_output=True, text=True)
    assert done.returncode == 2
    for part in ("SPACE.yaml", "ADDRESS", "RUNTIME_ENV", "--resume"):
        assert part in done.stderr
    assert "set -euo" not in done.stderr
