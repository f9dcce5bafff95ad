from collections.abc import Callable, Iterator

import pytest
from polaris_reward import DEFAULT, Grader, Outcome
from polaris_reward.equality.comparison import compare


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


@pytest.fixture(scope="session")
def verdict() -> Callable[[str, str], Outcome | None]:
    """Compares two answers in both directions, which must agree on whether they are equal."""

    def compare_both_ways(one: str, other: str) -> Outcome | None:
        there, back = compare(one, other, DEFAULT).outcome, compare(other, one, DEFAULT).outcome
        assert (there is Outcome.CORRECT) == (back is Outcome.CORRECT)
        return there

    return compare_both_ways
