import json
import subprocess
import sys

import pytest
from polaris_reward import Outcome
from polaris_reward.worker import judge

WORKER = [sys.executable, "-m", "polaris_reward.worker", "5", "1"]


def verdict(answer: str, reference: str) -> Outcome:
    errors = {"memory": MemoryError, "depth": RecursionError, "huge": OverflowError, "kind": TypeError}
    if reference in errors:
        raise errors[reference]
    if reference == "unreadable":
        return Outcome.REFERENCE_REJECTED
    return Outcome.CORRECT if answer == reference else Outcome.INCORRECT


@pytest.mark.parametrize(
    ("references", "outcome", "index"),
    [
        (["a"], Outcome.CORRECT, 0),
        (["b"], Outcome.INCORRECT, None),
        (["b", "unreadable", "memory", "a"], Outcome.CORRECT, 3),
        (["b", "unreadable", "memory"], Outcome.REFERENCE_REJECTED, None),
        (["b", "memory"], Outcome.ANSWER_REJECTED, None),
        (["depth"], Outcome.ANSWER_REJECTED, None),
        (["huge"], Outcome.ANSWER_REJECTED, None),
        (["kind"], Outcome.INCORRECT, None),
    ],
)
def test_whatever_a_comparison_does_becomes_an_outcome(
    references: list[str], outcome: Outcome, index: int | None
) -> None:
    assert judge("a", references, verdict) == (outcome, index)


def test_the_worker_answers_lines_of_json_until_its_input_ends() -> None:
    requests = [
        {"answer": "2x", "references": ["y", "x+x"]},
        {"answer": "2x", "references": ["x"]},
        {"answer": "\ud800", "references": ["x"]},
    ]
    done = subprocess.run(
        WORKER,
        input="".join(json.dumps(request) + "\n" for request in requests),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert replies[0] == {"ready": True}
    assert replies[1::2] == [{"taken": True}] * 3
    assert replies[2] == {"outcome": "correct", "reference": 1}
    assert replies[4] == {"outcome": "incorrect", "reference": None}
    assert len(replies) == 7
    assert done.stderr == ""


def test_what_libraries_print_does_not_reach_the_replies() -> None:
    script = (
        "import os; from polaris_reward import worker; replies = worker._claim_stdout();"
        "print('noise', flush=True); os.system('echo noise'); worker._say(replies, {'ready': True})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == {"ready": True}
    assert done.stderr.count("noise") == 2


def test_the_graders_own_process_never_imports_the_algebra() -> None:
    script = (
        "import sys, polaris_reward as p\n"
        "light = set(sys.modules)\n"
        "with p.Grader(1) as grader: assert grader.grade(r'\\boxed{2x}', ['x+x']).reward\n"
        "heavy = {'sympy', 'math_verify', 'torch', 'numpy', 'typer', 'rich', 'asyncio', 'multiprocessing'}\n"
        "print(sorted(heavy & light), sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[] []"
