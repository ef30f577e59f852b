"""What may import what: the contracts of pyproject.toml, and what a process really loads."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "service", "tandem", "training")
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def run(code: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python code in a fresh process with the packages of `cwd`."""
    start = "import sys; sys.path.insert(0, '.'); "
    command = [sys.executable, "-c", start + code, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages and their contracts in a folder of their own, to break something in."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_import_contracts_hold() -> None:
    result = run(LINT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_contract_notices_a_breach(copy: Path) -> None:
    breaches = {
        "models/errors.py": "import fastapi",
        "models/histories.py": "import torch",
        "service/variants.py": "import training.metrics",
        "training/metrics.py": "import service.variants",
    }
    for file, line in breaches.items():
        with (copy / file).open("a") as module:
            module.write(f"\n{line}\n")
    result = run(LINT, cwd=copy)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert result.returncode == 1
    assert f"Contracts: 0 kept, {len(contracts)} broken" in result.stdout


def test_the_contract_on_torch_names_every_module_of_models() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    named = next(c["source_modules"] for c in configuration["contracts"] if "models.networks" in c["name"])
    files = (ROOT / "models").glob("*.py")
    assert set(named) == {f"models.{file.stem}" for file in files if file.stem != "__init__"}


@pytest.mark.parametrize("module", ["service.app", "tandem.cli", "models.bundle", "models.graphs"])
def test_the_online_side_loads_neither_torch_nor_training(module: str) -> None:
    build = "tandem.cli.build(); " if module == "tandem.cli" else ""
    heavy = "{'torch', 'duckdb', 'faiss', 'sklearn', 'matplotlib', 'sentence_transformers', 'training.pipeline'}"
    result = run(f"import {module}; {build}print(sorted({heavy} & set(sys.modules)))")
    assert result.stdout == "[]\n", result.stdout + result.stderr


def test_without_onnx_runtime_serving_says_what_to_install() -> None:
    block = "sys.modules['onnxruntime'] = None; "
    result = run(block + "from tandem.cli import main; main()", "serve")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("tandem: ONNX Runtime is missing: pip install")
    assert "[cpu]" in result.stderr
    assert "[gpu]" in result.stderr


def test_without_torch_training_says_what_to_install() -> None:
    block = "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n: None if n == 'torch' else f(n); "
    result = run(block + "from tandem.cli import main; main()", "train", "data/demo", "--name", "demo")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "pip install 'tandem-recommender[train]'" in result.stderr
