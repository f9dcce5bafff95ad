import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from polaris_reward import Grader, Outcome, WorkerStartError

BOMB = (r"\boxed{10^{10^{10}}}", ["1/x"])
HARD = (r"\boxed{2\sqrt{2}}", [r"\sqrt{8}"])


@pytest.fixture(scope="module")
def quick():
    """A grader with a deadline that even a loaded machine keeps for an ordinary answer."""
    with Grader(2, deadline_s=1.0) as grader:
        grader.grade_many([HARD] * 4)
        yield grader


def test_a_stuck_answer_ends_at_the_deadline_and_the_next_one_is_graded(quick: Grader) -> None:
    started = time.monotonic()
    stuck = quick.grade(*BOMB)
    assert stuck.outcome is Outcome.ANSWER_TIMEOUT
    assert time.monotonic() - started < 1.0 + 0.5
    assert 1.0 <= stuck.seconds < 1.5
    assert quick.grade(*HARD).outcome is Outcome.CORRECT


def test_one_stuck_answer_does_not_spoil_its_batch(quick: Grader) -> None:
    grades = quick.grade_many([HARD, BOMB, HARD, HARD, (r"\boxed{1}", ["1"])])
    assert [one.outcome for one in grades] == [
        Outcome.CORRECT,
        Outcome.ANSWER_TIMEOUT,
        Outcome.CORRECT,
        Outcome.CORRECT,
        Outcome.CORRECT,
    ]


@pytest.mark.parametrize(
    "content",
    [
        "9" * 100_000,
        "{" * 50_000 + "x" + "}" * 50_000,
        "(" * 900 + "x" + ")" * 900,
        "99999999!",
        "7^{7^{7^{7}}}+y",
        r"\begin{pmatrix}" + r"1 & 2 \\ " * 200 + r"\end{pmatrix}",
        '__import__("os").system("exit 1")',
    ],
)
def test_a_pathological_answer_gets_an_outcome_in_time(quick: Grader, content: str) -> None:
    started = time.monotonic()
    assert not quick.grade(rf"\boxed{{{content}}}", ["x"]).reward
    # The deadline, and at worst the start of a fresh worker before it.
    assert time.monotonic() - started < 30


def test_an_answer_that_kills_its_worker_is_rejected(quick: Grader) -> None:
    with ThreadPoolExecutor(1) as executor:
        doomed = executor.submit(quick.grade, *BOMB)
        time.sleep(0.3)
        for pid in _children(quick):
            os.kill(pid, signal.SIGKILL)
        assert doomed.result(timeout=10).outcome is Outcome.ANSWER_REJECTED
    assert quick.grade(*HARD).outcome is Outcome.CORRECT


def test_an_answer_that_kills_its_whole_worker_is_rejected(quick: Grader) -> None:
    with ThreadPoolExecutor(1) as executor:
        doomed = executor.submit(quick.grade, *BOMB)
        time.sleep(0.3)
        before = quick.worker_pids
        for pid in before:
            os.killpg(pid, signal.SIGKILL)
        assert doomed.result(timeout=10).outcome is Outcome.ANSWER_REJECTED
    assert quick.grade(*HARD).outcome is Outcome.CORRECT
    assert set(quick.worker_pids) != set(before)


def test_an_idle_worker_that_dies_is_replaced_and_no_answer_is_blamed(quick: Grader) -> None:
    while len(_children(quick)) < 2:
        quick.grade_many([HARD] * 4)
    for pid in _children(quick):
        os.kill(pid, signal.SIGKILL)
    assert [one.outcome for one in quick.grade_many([HARD] * 4)] == [Outcome.CORRECT] * 4
    os.killpg(quick.worker_pids[0], signal.SIGKILL)
    assert [one.outcome for one in quick.grade_many([HARD] * 4)] == [Outcome.CORRECT] * 4


def test_a_worker_cannot_take_more_memory_than_its_ceiling(quick: Grader) -> None:
    quick.grade(*HARD)
    children = _children(quick)
    assert children
    for pid in children:
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii").splitlines()
        (line,) = [line for line in limits if line.startswith("Max address space")]
        assert line.split()[3:5] == [str(2**30), str(2**30)]


def test_many_threads_share_a_grader(quick: Grader) -> None:
    def work(number: int) -> Outcome:
        return quick.grade(rf"\boxed{{{number}x + x}}", [f"{number + 1 + number % 2}x"]).outcome

    with ThreadPoolExecutor(8) as executor:
        outcomes = list(executor.map(work, range(24)))
    assert outcomes == [Outcome.CORRECT, Outcome.INCORRECT] * 12
    assert len(quick.worker_pids) <= 2


def test_a_stuck_answer_leaves_the_event_loop_running(quick: Grader) -> None:
    async def ticks_while_stuck() -> int:
        task = asyncio.create_task(quick.agrade_many([BOMB]))
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.05)
            ticks += 1
        return ticks

    assert asyncio.run(ticks_while_stuck()) >= 5


def test_a_timer_of_the_caller_still_fires(quick: Grader) -> None:
    fired = threading.Event()
    previous = signal.signal(signal.SIGALRM, lambda *_: fired.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        quick.grade(*BOMB)
        assert fired.is_set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_forked_child_uses_workers_of_its_own(quick: Grader) -> None:
    quick.grade(*HARD)
    before = quick.worker_pids
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            inherited = quick.worker_pids
            outcome = quick.grade(*HARD).outcome
            os.write(writer, json.dumps([inherited, quick.worker_pids, outcome]).encode())
            quick.close()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        inherited, theirs, outcome = json.load(pipe)
    os.waitpid(child, 0)
    assert (inherited, outcome) == ([], "correct")
    assert set(theirs).isdisjoint(before)
    assert quick.grade(*HARD).outcome is Outcome.CORRECT
    assert quick.worker_pids == before


@pytest.mark.parametrize(
    "ending",
    [
        "raise RuntimeError",
        "os.kill(os.getpid(), 9)",
        # The worker is at work when its parent is gone; its own timer ends it.
        "threading.Thread(target=grade_bomb, daemon=True).start(); time.sleep(0.3); os.kill(os.getpid(), 9)",
    ],
)
def test_no_worker_outlives_its_parent(ending: str) -> None:
    # At module level and without a `__main__` guard, as a notebook or a script would.
    script = (
        "import os, sys, threading, time, polaris_reward as p\n"
        "grader = p.Grader(1, deadline_s=1.0)\n"
        f"def grade_bomb(): grader.grade(*{BOMB!r})\n"
        f"assert grader.grade(*{HARD!r}).reward\n"
        "print(grader.worker_pids[0], flush=True)\n"
        f"{ending}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    group = int(done.stdout)
    deadline = time.monotonic() + 10
    while _runs(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(group)


def test_a_worker_that_cannot_start_is_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('broken on purpose')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Grader(1) as grader, pytest.raises(WorkerStartError, match="ended with status 1"):
        grader.grade(*HARD)
    assert "broken on purpose" in capfd.readouterr().err


def _children(grader: Grader) -> list[int]:
    """Return the processes that do the work of a grader's workers."""
    return [
        int(child)
        for pid in grader.worker_pids
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    ]


def _runs(group: int) -> bool:
    """Whether a process of the group that a worker leads is left."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text(encoding="ascii").rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(process_group) == group and state != "Z":
            return True
    return False
