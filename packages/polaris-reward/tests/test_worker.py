import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from polaris_reward import Outcome
from polaris_reward.workers.worker import READY, judge, to_message

Connect = Callable[[str], tuple[subprocess.Popen[str], socket.socket]]


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


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Start a keeper with another comparison, and return it with the connection to a worker."""
    with ExitStack() as stack:

        def connect(load: str) -> tuple[subprocess.Popen[str], socket.socket]:
            script = (
                f"import os\nfrom polaris_reward.workers.worker import Outcome, main\n{load}\nmain(5, 0.5, load=load)"
            )
            requests, theirs = (stack.enter_context(end) for end in socket.socketpair())
            keeper = subprocess.Popen(
                [sys.executable, "-c", script],
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(keeper)
            # Ends the keeper, for whose end the stack then waits.
            stack.callback(requests.close)
            theirs.close()
            assert requests.recv(64) == READY
            ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
            socket.send_fds(requests, [to_message(0)], [theirs.fileno()])
            theirs.close()
            return keeper, ours

        yield connect


def ask(worker: socket.socket, answer: str, *references: str) -> dict[str, object] | None:
    worker.sendall(json.dumps({"answer": answer, "references": references}).encode() + b"\n")
    reply = worker.recv(65536)
    return json.loads(reply) if reply else None


BY_SPELLING = (
    "def load(): return lambda answer, reference: Outcome.CORRECT if answer == reference else Outcome.INCORRECT"
)
GREEDY = "def load(): return lambda answer, reference: bytearray(int(answer) << 20) and Outcome.CORRECT"
HOARDING = (
    "kept = []\ndef load(): return lambda answer, reference: kept.append(bytearray(300 << 20)) or Outcome.CORRECT"
)
NOISY = """
def load():
    print("noise", flush=True)
    os.system("echo noise")
    return lambda answer, reference: print("more", flush=True) or Outcome.CORRECT
"""


def test_a_worker_replies_to_one_request_after_the_other(connect: Connect) -> None:
    _, worker = connect(BY_SPELLING)
    assert ask(worker, "a", "b", "a") == {"outcome": "correct", "reference": 1, "last": False}
    assert ask(worker, "a", "b") == {"outcome": "incorrect", "reference": None, "last": False}
    assert ask(worker, "\ud800", "\ud800") == {"outcome": "correct", "reference": 0, "last": False}


def test_more_memory_than_the_ceiling_is_refused_to_an_answer(connect: Connect) -> None:
    _, worker = connect(GREEDY)
    assert ask(worker, "100", "") == {"outcome": "correct", "reference": 0, "last": False}
    assert ask(worker, "1000", "") == {"outcome": "answer_rejected", "reference": None, "last": False}
    assert ask(worker, "100", "") == {"outcome": "correct", "reference": 0, "last": False}


def test_a_worker_that_keeps_much_memory_ends_after_its_reply(connect: Connect) -> None:
    _, worker = connect(HOARDING)
    assert ask(worker, "", "") == {"outcome": "correct", "reference": 0, "last": True}
    assert worker.recv(1) == b""


def test_what_libraries_print_reaches_standard_error_at_most(connect: Connect) -> None:
    keeper, worker = connect(NOISY)
    assert ask(worker, "", "") == {"outcome": "correct", "reference": 0, "last": False}
    keeper.kill()
    worker.close()
    printed, errors = keeper.communicate(timeout=60)
    assert (printed, errors) == ("", "noise\nnoise\n")


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


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        (r"\int_0^1 x\,dx", r"\frac{1}{2}"),
        (r"\lim_{x\to 0}\frac{\sin x}{x}", "1.0"),
        (r"\sum_{n=1}^\infty \frac{1}{2^n}", "1"),
        (r"\frac{d}{dx} x^3", "3x^2"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
    ],
)
def test_algebra_needs_no_evaluation_of_text(answer: str, reference: str) -> None:
    script = (
        "import sys\n"
        "from polaris_reward.workers.worker import judge, load_symbolic, refuse_evaluation\n"
        "compare = load_symbolic()\n"
        "sys.addaudithook(refuse_evaluation)\n"
        f"print(judge({answer!r}, [{reference!r}], compare)[0])\n"
        "try:\n"
        "    eval('1 + 1')\n"
        "except PermissionError:\n"
        "    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-2:] == ["correct", "refused"]
