"""The layers of the package: imports go down only, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "raystt"

# From the bottom to the top; a module belongs to the longest name that it starts with. A module
# imports from its own layer and from those above it in this list, never from those below.
LAYERS = {
    "core": [
        "raystt.errors",
        "raystt.files",
        "raystt.remote",
        "raystt.hub",
        "raystt.strict",
        "raystt.schedule",
        "raystt.interleaving",
        "raystt.scores",
        "raystt",
    ],
    "speech": ["raystt.speech", "raystt.vocoder", "raystt.recognition"],
    "config": ["raystt.config"],
    "records": ["raystt.results", "raystt.ranking", "raystt.lines", "raystt.progress"],
    "corpus": ["raystt.corpus", "raystt.readers"],
    "training": ["raystt.training"],
    "evaluation": ["raystt.evaluation"],
    "cluster": ["raystt.cluster", "raystt.pools"],
    "preparation": ["raystt.preparation"],
    "checking": ["raystt.checking"],
    "searching": ["raystt.searching"],
    "report": ["raystt.report"],
    "api": ["raystt.api", "raystt.runs", "raystt.arguments", "raystt.cli", "raystt.signals"],
}
ORDER = list(LAYERS)

# Third-party imports of the lower layers, complete: what is not named is not allowed.
ALLOWED = {
    "core": {
        "fsspec",
        "huggingface_hub",
        "numpy",
        "psutil",
        "pyarrow",
        "pydantic",
        "sacrebleu",
        "scipy",
    },
    "config": {"pydantic", "yaml"},
    "records": {"pandas", "pydantic", "rich"},
    "corpus": {"numpy", "pyarrow", "pydantic", "yaml"},
    "speech": {
        "espeakng_loader",
        "numpy",
        "pocketsphinx",
        "safetensors",
        "scipy",
        "sklearn",
        "soundfile",
        "threadpoolctl",
        "torch",
        "torchaudio",
        "transformers",
        "uroman",
    },
}
# Above them, what a layer must do without.
FORBIDDEN = {
    "training": {"ray", "optuna"},
    "evaluation": {"ray", "optuna", "deepspeed"},
    "cluster": {"optuna"},
    "preparation": {"optuna"},
    "checking": {"ray", "optuna", "torch", "transformers", "deepspeed"},
}

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def layer(module: str) -> str | None:
    """Return the layer of a module, or None where no layer names it."""
    names = {name: place for place, members in LAYERS.items() for name in members}
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        # The package itself holds all layers: it names no submodule.
        if name in names and (length == len(parts) or name != "raystt"):
            return names[name]
    return None


def imports(path: Path, module: str) -> list[tuple[str, int]]:
    """Return every imported module and its line, those inside functions and for types included."""
    found = []
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            # `from raystt.report import results` imports a module, not a name of the package.
            names = [f"{base}.{alias.name}" for alias in node.names]
            modules = [name for name in names if name in MODULES]
            found += [(name, node.lineno) for name in modules]
            if len(modules) < len(names):
                found.append((base, node.lineno))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    place = layer(module)
    assert place is not None, f"{module}: name its layer in {Path(__file__).name}"
    for target, line in imports(MODULES[module], module):
        if target.split(".")[0] != "raystt":
            continue
        where = f"{MODULES[module]}:{line}: {module} ({place}) imports {target}"
        below = layer(target)
        assert below is not None, f"{where}, which no layer names"
        assert ORDER.index(below) <= ORDER.index(place), f"{where} of {below}, a higher layer"


@pytest.mark.parametrize("module", MODULES)
def test_libraries_stay_in_their_layer(module: str) -> None:
    place = layer(module)
    for target, line in imports(MODULES[module], module):
        library = target.split(".")[0]
        if library == "raystt" or library in sys.stdlib_module_names:
            continue
        where = f"{MODULES[module]}:{line}: {place} must do without {target}"
        if place in ALLOWED:
            assert library in ALLOWED[place], where
        assert library not in FORBIDDEN.get(place or "", ()), where


def test_no_import_cycles() -> None:
    graph = {
        module: {name for name, _ in imports(path, module) if name in MODULES} - {module}
        for module, path in MODULES.items()
    }
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


# In this order in one process: what a module may not load, none before it may either.
LIGHT = {
    "raystt": ["numpy", "ray", "torch"],
    "raystt.schedule": ["ray", "torch"],
    "raystt.interleaving.sequences": ["ray", "torch"],
    "raystt.scores": ["ray", "torch"],
    "raystt.config": ["ray", "torch", "transformers", "optuna", "deepspeed"],
    "raystt.checking": ["ray", "torch", "transformers", "optuna", "deepspeed"],
    "raystt.results": ["ray", "torch", "altair"],
}
HEAVY = {"raystt.training.segment": ["ray", "optuna"], "raystt.evaluation": ["ray", "optuna"]}


DEEPSPEED = """
from raystt.training.engine import join_process_group
join_process_group("cpu")
print(*({"mlflow"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("modules", "then"), [(LIGHT, ""), pytest.param(HEAVY, DEEPSPEED, marks=pytest.mark.slow)]
)
def test_imports_load_nothing_of_a_higher_layer(modules: dict[str, list[str]], then: str) -> None:
    code = (
        f"import importlib, sys\nfor name, absent in {modules!r}.items():\n"
        " importlib.import_module(name)\n"
        " print(*(f'{name} loads {other}' for other in absent if other in sys.modules))\n" + then
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout.strip(), done.stdout
