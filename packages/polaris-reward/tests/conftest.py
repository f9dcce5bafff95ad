from collections.abc import Iterator

import pytest
from polaris_reward import Grader


@pytest.fixture(scope="session")
def grader() -> Iterator[Grader]:
    with Grader(1) as grader:
        yield grader
