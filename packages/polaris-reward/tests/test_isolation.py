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

pytestmark = pytest.mark.timeout(300)

# For the workers themselves, which do not know that most answers are settled before they reach them.
STUCK = ("10^{10^{10}}", ["1/x"])
HARD = (r"2\sqrt{2}", [r"\sqrt{8}"])
# A deadline that does not pass while a test runs; what waits for it hangs until the test is ended.
NEVER_S = 3600.0
# For a grader, which leaves integrals and limits to its workers.
STUCK_RESPONSE = (r"\boxed{\int_0^a e^{-x^2} \sin(x^3) \, dx}", [r"\int_0^a e^{-x^3} \sin(x^2) \, dx"])
HARD_RESPONSE = (r"\boxed{\lim_{x \to 0} (x + 3)}", ["3"])


@pytest.fixture(scope="module")
def quick() -> Iterator[WorkerPool]:
    """Workers with a deadline that a stuck answer reaches soon, and an ordinary one even on a loaded machine never."""
    yield from running(deadline_s=2.0)


@pytest.fixture(scope="module")
def patient() -> Iterator[WorkerPool]:
    """Workers for tests in which no answer is stuck."""
    yield from running(deadline_s=NEVER_S)


def running(*, deadline_s: float) -> Iterator[WorkerPool]:
    pool = WorkerPool(num_workers=2, deadline_s=deadline_s, memory_gib=1.0)
    pool.judge([HARD] * 4)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(2, deadline_s=1.0) as grader:
        yield grader


def test_a_stuck_answer_ends_at_the_deadline_and_the_next_one_is_graded(quick: WorkerPool) -> None:
    assert outcomes(quick, HARD) == ["correct"]
    before = set(workers(quick))
    assert outcomes(quick, STUCK) == ["answer_timeout"]
    assert outcomes(quick, HARD) == ["correct"]
    # Nothing but the deadline can have ended the worker that was at it.
    assert len(before - set(workers(quick))) == 1


def test_one_stuck_answer_does_not_spoil_its_batch(quick: WorkerPool) -> None:
    assert outcomes(quick, HARD, STUCK, HARD, HARD) == ["correct", "answer_timeout", "correct", "correct"]


def test_a_long_batch_does_not_keep_another_thread_waiting(quick: WorkerPool) -> None:
    with ThreadPoolExecutor(1) as executor:
        batch = executor.submit(quick.judge, [STUCK] * 6)
        time.sleep(0.3)
        assert outcomes(quick, HARD) == ["correct"]
        # A worker is free after at most one item of the batch, of which each worker has three.
        assert not batch.done()
        assert [verdict.outcome for verdict in batch.result()] == [Outcome.ANSWER_TIMEOUT] * 6


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
def test_a_pathological_answer_gets_an_outcome(grader: Grader, quick: WorkerPool, answer: str) -> None:
    assert outcomes(quick, (answer, ["x"])) != ["correct"]
    assert not grader.grade(rf"\boxed{{{answer}}}", ["x"]).reward


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


def test_an_idle_worker_that_dies_is_replaced_and_no_answer_is_blamed(patient: WorkerPool) -> None:
    while len(workers(patient)) < 2:
        patient.judge([HARD] * 4)
    kill(*workers(patient))
    assert outcomes(patient, *[HARD] * 4) == ["correct"] * 4
    os.killpg(patient.pids[0], signal.SIGKILL)
    assert outcomes(patient, *[HARD] * 4) == ["correct"] * 4


def test_a_worker_cannot_take_more_memory_than_its_ceiling(patient: WorkerPool) -> None:
    patient.judge([HARD])
    assert workers(patient)
    for pid in workers(patient):
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii").splitlines()
        (line,) = [line for line in limits if line.startswith("Max address space")]
        assert line.split()[3:5] == [str(2**30), str(2**30)]


def test_many_threads_share_the_workers(patient: WorkerPool) -> None:
    def work(number: int) -> list[str]:
        return outcomes(patient, (f"{number}x + x", [f"{number + 1 + number % 2}x"]))

    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(work, range(24))) == [["correct"], ["incorrect"]] * 12
    assert len(workers(patient)) <= 2


def test_whoever_waits_for_a_worker_learns_that_the_grader_was_closed() -> None:
    pool = WorkerPool(num_workers=1, deadline_s=NEVER_S, memory_gib=1.0)
    pool.judge([HARD])
    with ThreadPoolExecutor(2) as executor:
        waiting = [executor.submit(pool.judge, [STUCK] * 2) for _ in range(2)]
        time.sleep(0.5)
        pool.close()
        for one in waiting:
            with pytest.raises(GraderClosedError):
                one.result()
    assert pool.pids == []


def test_ctrl_c_ends_a_batch_and_leaves_the_workers_usable() -> None:
    # All of the batch would take its deadline fifty times.
    script = (
        "import signal, threading\n"
        "from polaris_reward.workers.pool import WorkerPool\n"
        "pool = WorkerPool(num_workers=2, deadline_s=20, memory_gib=1.0)\n"
        f"pool.judge([{HARD!r}])\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts without it\n"
        "main = threading.main_thread().ident\n"
        "threading.Timer(0.5, signal.pthread_kill, [main, signal.SIGINT]).start()\n"
        f"try: pool.judge([{STUCK!r}] * 100)\n"
        "except KeyboardInterrupt: print('stopped')\n"
        f"print(pool.judge([{HARD!r}])[0].outcome)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.splitlines() == ["stopped", "correct"], done.stderr


def test_a_stuck_answer_leaves_the_event_loop_running() -> None:
    async def close_while_stuck() -> None:
        with Grader(1, deadline_s=NEVER_S) as grader:
            stuck = asyncio.create_task(grader.agrade_many([STUCK_RESPONSE]))
            while not grader.worker_pids:
                await asyncio.sleep(0.05)
            assert not stuck.done()
            grader.close()
            with pytest.raises(GraderClosedError):
                await stuck

    asyncio.run(close_while_stuck())


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


def test_a_forked_child_uses_workers_of_its_own(patient: WorkerPool) -> None:
    patient.judge([HARD])
    before = patient.pids
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            inherited = patient.pids
            verdicts = outcomes(patient, HARD)
            os.write(writer, json.dumps([inherited, patient.pids, verdicts]).encode())
            patient.close()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        inherited, theirs, verdicts = json.load(pipe)
    os.waitpid(child, 0)
    assert (inherited, verdicts) == ([], ["correct"])
    assert set(theirs).isdisjoint(before)
    assert outcomes(patient, HARD) == ["correct"]
    assert patient.pids == before


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
    # Its own timer ends it after some seconds at the latest.
    while _runs(session):
        time.sleep(0.05)


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
