"""Each package as a stranger gets it: a wheel, installed alone outside the checkout."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("reward", "rollout", "data", "eval", "train")
COMMANDS = [*(f"polaris-{package}" for package in PACKAGES), "polaris"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_without_importing_a_heavy_library(name, command, tmp_path):
    done = command(name, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    module = "polaris_train.cli.polaris" if name == "polaris" else f"{name.replace('-', '_')}.cli.main"
    heavy = "{'torch', 'vllm', 'transformers', 'datasets', 'sympy', 'pyarrow', 'numpy', 'pydantic'}"
    code = f"import sys, {module}; print({heavy} & sys.modules.keys())"
    done = command("python", "-c", code, cwd=tmp_path)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_the_modules_answer_like_the_commands(package, command, tmp_path):
    done = command("python", "-m", f"polaris_{package}", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_a_temperature_is_found_with_the_prompt_that_is_trained_on():
    import polaris_data
    import polaris_rollout

    assert polaris_rollout.PROMPT_SUFFIX == polaris_data.PROMPT_SUFFIX


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run(["uv", "build", "--all-packages", "--wheel", "--out-dir", folder], cwd=ROOT, check=True)
    return folder


def install_alone(package, wheels, folder):
    """Install one wheel, its siblings from the same folder, with the versions of the lock; return its bin folder."""
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    constraints = folder / "constraints.txt"
    export = ["uv", "export", "--extra", "cpu", "--no-hashes", "--no-emit-workspace", "--quiet"]
    constraints.write_text(subprocess.run(export, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    subprocess.run(["uv", "venv", "--quiet", folder / "venv"], check=True, env=environment)
    install = ["uv", "pip", "install", "--quiet", "--python", folder / "venv", "--find-links", wheels]
    subprocess.run(
        [*install, "--constraints", constraints, f"polaris-{package}"], check=True, env=environment, cwd=folder
    )
    return folder / "venv" / "bin"


@pytest.mark.parametrize("package", ["reward", "data", "rollout"])
def test_a_light_wheel_installs_alone_and_pulls_no_torch(package, wheels, tmp_path):
    binaries = install_alone(package, wheels, tmp_path)
    done = subprocess.run([binaries / f"polaris-{package}", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = "import importlib.util; print(importlib.util.find_spec('torch'))"
    assert subprocess.run([binaries / "python", "-c", code], capture_output=True, text=True).stdout == "None\n"


@pytest.mark.slow
@pytest.mark.parametrize("package", ["eval", "train"])
def test_a_heavy_wheel_installs_alone(package, wheels, tmp_path):
    binaries = install_alone(package, wheels, tmp_path)
    done = subprocess.run([binaries / f"polaris-{package}", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
