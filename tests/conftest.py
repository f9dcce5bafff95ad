"""Fixtures of the tests that cross packages: the embedded model, the real engine, real problems."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real problems beside the repository."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no ../shared/data beside the repository")
    return SHARED / "data"


@pytest.fixture(scope="session")
def command():
    """Run one of the commands in a child process, as a person would; returns the completed process."""

    def run(*arguments, cwd, timeout=300):
        return subprocess.run(
            [str(Path(sys.executable).with_name(arguments[0])), *map(str, arguments[1:])],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ | {"COLUMNS": "120"},
        )

    return run


@pytest.fixture(scope="session")
def underlining(tmp_path_factory):
    """The embedded model after it learned to underline its steps, all of them or the first half; half a minute."""
    train = runpy.run_path(str(ROOT / "examples" / "other_ways_to_learn.py"))["train"]
    return train(tmp_path_factory.mktemp("underlining"), "student", {"partial": 0.5, "worked": 0.5}, num_steps=60)
