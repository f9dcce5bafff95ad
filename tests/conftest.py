"""Fixtures of the tests that cross packages: the embedded model, the real engine, real problems."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


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
