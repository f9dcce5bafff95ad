import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from polaris_reward import Grader, Outcome, WorkerStartError
from polaris_reward.errors import GraderClosedError
from polaris_reward.workers.pool import WorkerPool

# For the workers themselves, which do not know that most answers are settled before they reach them.
STUCK = ("10^{10^{10}}", ["1/x"])
HARD = (r"2\sqrt{2}", [r"\sqrt{8}"])
# For a grader, which leaves integrals and limits to its workers.
STUCK_RESPONSE = (r"\boxed{\int_0^a e^{-x^2} \sin(x^3) \, dx}", [r"\int_0^a e^{-x^3} \sin(x^2) \, dx"])
HARD_RESPONSE = (r"\boxed{\lim_{x \to 0} (x + 3)}", ["3"])


@pytest.fixture(scope="module")
def quick() -> Iterator[WorkerPool]:
    """Workers with a deadline that even a loaded machine keeps for an ordinary answer."""
    pool = WorkerPool(num_workers=2, deadline_s=1.0, memory_gib=1.0)
    pool.judge([HARD] * 4)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(2, deadline_s=1.0) as grader:
        yield grader


def test_a_stuck_answer_ends_at_the_deadline_and_the_next_one_is_graded(quick: WorkerPool) -> None:
    started = time.monotonic()
    (stuck,) = quick.judge([STUCK])
    assert stuck.outcome is Outcome.ANSWER_TIMEOUT
    assert time.monotonic() - started < 1.0 + 0.5
    assert 1.0 <= stuck.seconds < 1.5
    assert outcomes(quick, HARD) == ["correct"]


def test_one_stuck_answer_does_not_spoil_its_batch(quick: WorkerPool) -> None:
    assert outcomes(quick, HARD, STUCK, HARD, HARD) == ["correct", "answer_timeout", "correct", "correct"]


def test_a_long_batch_does_not_keep_another_thread_waiting(quick: WorkerPool) -> None:
    with ThreadPoolExecutor(1) as executor:
        batch = executor.submit(quick.judge, [STUCK] * 8)
        time.sleep(0.3)
        started = time.monotonic()
        assert outcomes(quick, HARD) == ["correct"]
        # A worker is free after at most one item of the batch, which takes four times as long.
        assert time.monotonic() - started < 2.0
        assert [verdict.outcome for verdict in batch.result()] == [Outcome.ANSWER_TIMEOUT] * 8


@pytest.mark.parametrize(
    "answer",
    [
        "9" * 100_000,
        "{" * 50_000 + "x" + "}" * 50_000,
        "(" * 900 + "x" + ")" * 900,
        "99999999!",
        "7^{7^{7^{7}}}+y",
        "10**10**10",
        r"\begin{pmatrix}" + r"1 & 2 \\ " * 200 + r"\end{pmatrix}",
        r"\sum_{n=1}^{10^{12}} \frac{1}{n}",
        '__import__("os").system("exit 1")',
    ],
)
def test_a_pathological_answer_gets_an_outcome_in_time(grader: Grader, quick: WorkerPool, answer: str) -> None:
    started = time.monotonic()
    assert outcomes(quick, (answer, ["x"])) != ["correct"]
    assert not grader.grade(rf"\boxed{{{answer}}}", ["x"]).reward
    # Twice the deadline, and at worst the start of a fresh worker before it.
    assert time.monotonic() - started < 30


def test_an_answer_is_tried_again_when_its_worker_is_killed_and_rejected_when_that_happens_twice(
    quick: WorkerPool,
) -> None:
    with ThreadPoolExecutor(1) as executor:
        unlucky = executor.submit(outcomes, quick, STUCK)
        time.sleep(0.3)
        kill(*workers(quick))
        assert unlucky.result(timeout=10) == ["answer_timeout"]
        doomed = executor.submit(outcomes, quick, STUCK)
        while not doomed.done():
            time.sleep(0.1)
            kill(*workers(quick))
        assert doomed.result() == ["answer_rejected"]
    assert outcomes(quick, HARD) == ["correct"]


def test_after_all_worker_processes_were_killed_there_are_fresh_ones(quick: WorkerPool) -> None:
    outcomes(quick, HARD)
    before = quick.pids
    with ThreadPoolExecutor(1) as executor:
        unlucky = executor.submit(outcomes, quick, STUCK)
        time.sleep(0.3)
        os.killpg(before[0], signal.SIGKILL)
        assert unlucky.result(timeout=20) == ["answer_timeout"]
    assert outcomes(quick, *[HARD] * 4) == ["correct"] * 4
    assert set(quick.pids).isdisjoint(before)


def test_an_idle_worker_that_dies_is_replaced_and_no_answer_is_blamed(quick: WorkerPool) -> None:
    while len(workers(quick)) < 2:
        quick.judge([HARD] * 4)
    kill(*workers(quick))
    assert outcomes(quick, *[HARD] * 4) == ["correct"] * 4
    os.killpg(quick.pids[0], signal.SIGKILL)
    assert outcomes(quick, *[HARD] * 4) == ["correct"] * 4


def test_a_worker_cannot_take_more_memory_than_its_ceiling(quick: WorkerPool) -> None:
    quick.judge([HARD])
    assert workers(quick)
    for pid in workers(quick):
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii").splitlines()
        (line,) = [line for line in limits if line.startswith("Max address space")]
        assert line.split()[3:5] == [str(2**30), str(2**30)]


def test_many_threads_share_the_workers(quick: WorkerPool) -> None:
    def work(number: int) -> list[str]:
        return outcomes(quick, (f"{number}x + x", [f"{number + 1 + number % 2}x"]))

    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(work, range(24))) == [["correct"], ["incorrect"]] * 12
    assert len(workers(quick)) <= 2


def test_whoever_waits_for_a_worker_learns_that_the_grader_was_closed() -> None:
    pool = WorkerPool(num_workers=1, deadline_s=20.0, memory_gib=1.0)
    pool.judge([HARD])
    with ThreadPoolExecutor(2) as executor:
        waiting = [executor.submit(pool.judge, [STUCK] * 2) for _ in range(2)]
        time.sleep(0.5)
        started = time.monotonic()
        pool.close()
        for one in waiting:
            with pytest.raises(GraderClosedError):
                one.result()
    assert time.monotonic() - started < 10
    assert pool.pids == []


def test_ctrl_c_ends_a_batch_and_leaves_the_workers_usable() -> None:
    script = (
        "import signal, threading, time\n"
        "from polaris_reward.workers.pool import WorkerPool\n"
        "pool = WorkerPool(num_workers=2, deadline_s=5.0, memory_gib=1.0)\n"
        f"pool.judge([{HARD!r}])\n"
        "main = threading.main_thread().ident\n"
        "threading.Timer(0.5, signal.pthread_kill, [main, signal.SIGINT]).start()\n"
        "started = time.monotonic()\n"
        f"try: pool.judge([{STUCK!r}] * 100)\n"
        "except KeyboardInterrupt: print('stopped', time.monotonic() - started < 4)\n"
        f"print(pool.judge([{HARD!r}])[0].outcome)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["stopped True", "correct"], done.stderr


def test_a_stuck_answer_leaves_the_event_loop_running(grader: Grader) -> None:
    async def ticks_while_stuck() -> int:
        task = asyncio.create_task(grader.agrade_many([STUCK_RESPONSE]))
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.05)
            ticks += 1
        return ticks

    assert asyncio.run(ticks_while_stuck()) >= 5


def test_a_timer_of_the_caller_still_fires(grader: Grader) -> None:
    fired = threading.Event()
    previous = signal.signal(signal.SIGALRM, lambda *_: fired.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        grader.grade(*STUCK_RESPONSE)
        assert fired.is_set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_forked_child_uses_workers_of_its_own(quick: WorkerPool) -> None:
    quick.judge([HARD])
    before = quick.pids
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            inherited = quick.pids
            verdicts = outcomes(quick, HARD)
            os.write(writer, json.dumps([inherited, quick.pids, verdicts]).encode())
            quick.close()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        inherited, theirs, verdicts = json.load(pipe)
    os.waitpid(child, 0)
    assert (inherited, verdicts) == ([], ["correct"])
    assert set(theirs).isdisjoint(before)
    assert outcomes(quick, HARD) == ["correct"]
    assert quick.pids == before


@pytest.mark.parametrize(
    "ending",
    [
        "raise RuntimeError",
        "os.kill(os.getpid(), 9)",
        # A worker is at work when its parent is gone.
        "threading.Thread(target=get_stuck, daemon=True).start(); time.sleep(0.3); os.kill(os.getpid(), 9)",
        "threading.Thread(target=get_stuck, daemon=True).start(); time.sleep(0.3)",
        # So is one whose keeper is gone, too: its own timer ends it.
        "threading.Thread(target=get_stuck, daemon=True).start(); time.sleep(0.3)\n"
        "os.kill(grader.worker_pids[0], 9); os.kill(os.getpid(), 9)",
    ],
)
def test_no_worker_outlives_its_parent(ending: str) -> None:
    # At module level and without a `__main__` guard, as a notebook or a script would.
    script = (
        "import os, sys, threading, time, polaris_reward as p\n"
        "grader = p.Grader(1, deadline_s=1.0)\n"
        f"def get_stuck(): grader.grade(*{STUCK_RESPONSE!r})\n"
        f"assert grader.grade(*{HARD_RESPONSE!r}).reward\n"
        "print(grader.worker_pids[0], flush=True)\n"
        f"{ending}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    session = int(done.stdout)
    deadline = time.monotonic() + 10
    while _runs(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(session)


def test_a_worker_that_cannot_start_is_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('broken on purpose')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Grader(1) as grader, pytest.raises(WorkerStartError, match="ended with status 1"):
        grader.grade(*HARD_RESPONSE)
    assert "broken on purpose" in capfd.readouterr().err


def test_workers_that_cannot_be_forked_are_an_error_and_no_wrong_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fork = "import os\ndef fork(): raise BlockingIOError('too many processes')\nos.fork = fork"
    (tmp_path / "sitecustomize.py").write_text(fork)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Grader(1) as grader, pytest.raises(WorkerStartError, match="cannot start: too many processes"):
        grader.grade(*HARD_RESPONSE)


def outcomes(pool: WorkerPool, *tasks: tuple[str, list[str]]) -> list[str]:
    return [verdict.outcome.value for verdict in pool.judge(tasks)]


def workers(pool: WorkerPool) -> list[int]:
    (keeper,) = pool.pids
    return [int(pid) for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text(encoding="ascii").split()]


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def _runs(session: int) -> bool:
    """Whether a process of the session that a grader's processes share is left."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, process_session = stat.read_text(encoding="ascii").rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(process_session) == session and state != "Z":
            return True
    return False
