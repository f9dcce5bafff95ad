from collections.abc import Iterator

import pytest
from polaris_reward import Grader


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let worker processes share compiled modules; where none may be written, each start would compile sympy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(scope="session")
def grader() -> Iterator[Grader]:
    with Grader(1) as grader:
        yield grader
