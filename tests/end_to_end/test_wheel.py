"""The wheel as others get it: built from the sources, in an environment that has what it requires and nothing else.

The environment is a fresh one; the required distributions, found from the wheel's own metadata, are linked into it from
where the tests run. What only the tests or the extras need (pytest, bm25s, lm-eval ...) is absent, and so is the repository.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from support import data

import paydirt

ROOT = Path(__file__).resolve().parents[2]
NOT_CODE = {".pyc"}


def required(requirements: list[str], extra: str = "") -> dict[str, Distribution]:
    """Distributions that the requirements lead to, by lower-case name."""
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(text), extra) for text in requirements]
    while waiting:
        wanted, extra = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        try:
            made = distribution(wanted.name)
        except PackageNotFoundError:
            pytest.skip(f"{wanted} is not installed where the tests run")
        if name not in found or wanted.extras:
            found[name] = made
            inner = [Requirement(text) for text in made.requires or []]
            waiting += [(one, further) for one in inner for further in ("", *wanted.extras)]
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, since building leaves files beside them."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "paydirt", folder / "source" / "paydirt", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--wheel-dir", folder, folder / "source"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and its requirements; its folder."""
    folder = tmp_path_factory.mktemp("clean") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--no-deps", "--no-index"]
    done = subprocess.run([*pip, "--quiet", wheel], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        needs = message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    for needed in required(needs).values():
        for top in {file.parts[0] for file in needed.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(needed.locate_file(top))))
    return folder


def run(clean: Path, work: Path, *arguments: str | Path) -> str:
    """stdout of `python ARGUMENTS`, or of the command `paydirt`, in the clean environment, from `work`."""
    own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    program = ("python",) if str(arguments[0]).startswith("-") else ()
    words = [*program, *map(str, arguments)]
    done = subprocess.run(
        [clean / "bin" / words[0], *words[1:]], cwd=work, capture_output=True, text=True, check=False,
        env={**own, "PAYDIRT_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_it_holds_every_file_of_the_package_and_the_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "paydirt").rglob("*")
        if path.is_file() and path.suffix not in NOT_CODE
    }
    assert any(name.endswith(".csv") for name in files)
    assert files - names == set()
    assert {name.split("/")[0] for name in names} == {"paydirt", f"paydirt_llm-{paydirt.__version__}.dist-info"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_it_works_without_the_repository(clean: Path, tmp_path: Path) -> None:
    """Version, methods, a table that ships, scores and a selection, from another folder."""
    where = run(clean, tmp_path, "-c", "import paydirt, sys; print(paydirt.__file__); print(*sys.path, sep='\\n')")
    assert str(ROOT) not in where
    assert where.startswith(str(clean))
    absent = "import importlib.util as i; print([n for n in ('pytest', 'bm25s', 'lm_eval', 'mypy') if i.find_spec(n)])"
    assert run(clean, tmp_path, "-c", absent).strip() == "[]"
    assert run(clean, tmp_path, "-m", "paydirt", "--version").split() == ["paydirt", paydirt.__version__]
    assert run(clean, tmp_path, "paydirt", "--version").split() == ["paydirt", paydirt.__version__]
    assert "| `gradient` |" in run(clean, tmp_path, "-m", "paydirt", "methods")
    assert "lambda" in run(clean, tmp_path, "-m", "paydirt", "fit", "published", "--variant", "published")
    data.write_jsonl(tmp_path / "pool.jsonl", data.pool_records())
    data.write_jsonl(tmp_path / "references.jsonl", data.reference_records())
    target = ("--target", "t", "--references", "references.jsonl")
    run(clean, tmp_path, "-m", "paydirt", "score", "bm25", "--pool", "pool.jsonl", *target, "--out", "scores")
    run(clean, tmp_path, "-m", "paydirt", "select", "scores", "--count", "6", "--out", "chosen")
    assert len((tmp_path / "chosen" / "selection.jsonl").read_text().splitlines()) == 6
    run(clean, tmp_path, "paydirt", "tiny", "--pool", "pool.jsonl", "--out", "tiny")
    tuning = ("--model", "tiny/model", "--max-length", "128", "--set", "lora.r=2")
    run(clean, tmp_path, "paydirt", "train", "--data", "chosen/selection.jsonl", *tuning, "--out", "tuned")
    assert (tmp_path / "tuned" / "model" / "adapter_model.safetensors").is_file()
    run(clean, tmp_path, "paydirt", "export", "chosen", "--name", "six", "--out", "exported")
    assert "receipt" in (tmp_path / "exported" / "README.md").read_text()


def test_every_module_imports_without_extras(clean: Path, tmp_path: Path) -> None:
    """What a module needs at import is among the requirements; lm-eval's adapters alone need the extra they are for."""
    code = """
import importlib, pkgutil, paydirt
for module in pkgutil.walk_packages(paydirt.__path__, "paydirt."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(module.name, error.name)
"""
    missing = [line.split() for line in run(clean, tmp_path, "-c", code).splitlines()]
    assert {package for _, package in missing} <= {"lm_eval"}, missing
    assert all(name.startswith("paydirt.tasks.harness.") for name, _ in missing), missing


def test_the_papers_of_the_repository_agree() -> None:
    """Version and licence are said in several places, each for a reader of its own."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == paydirt.__version__
    assert f'version = "{paydirt.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {paydirt.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert cited["license"] == "Apache-2.0"
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
    text = (ROOT / "LICENSE").read_text()
    assert len(text.splitlines()) == 202
    assert "Version 2.0, January 2004" in text


def test_what_github_runs_is_what_anyone_runs() -> None:
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make test"]
    assert re.search(r"^test:", (ROOT / "Makefile").read_text(), re.M)
    assert json.dumps(steps).count("secrets") == 0
