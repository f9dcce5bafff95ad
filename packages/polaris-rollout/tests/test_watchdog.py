"""A process whose engine has stopped ends itself and says what every engine and every thread was doing."""

import signal
import subprocess
import sys
import time

import pytest
from polaris_rollout.engines.watchdog import STALL_EXIT_CODE, watch
from polaris_rollout.errors import SettingError

PROGRAM = """
import ctypes, sys, threading, time
from polaris_rollout.contracts import EngineStatus
from polaris_rollout.engines.watchdog import watch

class Engine:
    sampled_tokens = 12345
    hang_in_status = False

    def status(self):
        while self.hang_in_status:
            time.sleep(60)
        return [
            EngineStatus(name="rank 0", state="sampling", running=8, waiting=56, longest_running=4321,
                         sampled_tokens=self.sampled_tokens),
            EngineStatus(name="rank 1", state="down since 12 s", running=0, waiting=0, longest_running=None,
                         sampled_tokens=9),
        ]

engine = Engine()

def hang_in_the_engine():
    time.sleep(600)

def hang_with_the_interpreter():
    ctypes.PyDLL(None).sleep(600)

def hang_in_status():
    engine.hang_in_status = True
    time.sleep(600)

def move_slowly():
    for _ in range(25):
        time.sleep(0.1)
        engine.sampled_tokens += 1

def wait_to_be_suspended():
    print("ready", flush=True)
    for _ in range(10):
        time.sleep(0.1)
        engine.sampled_tokens += 1

with watch(engine, stall_limit_s=float(sys.argv[2]), label="evaluating"):
    globals()[sys.argv[1]]()
time.sleep(1.5)
print("the end")
"""


def run(what, limit_s):
    command = [sys.executable, "-c", PROGRAM, what, str(limit_s)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_a_process_that_hangs_in_its_engine_says_what_it_was_doing_and_ends():
    done = run("hang_in_the_engine", 0.5)
    assert done.returncode == STALL_EXIT_CODE == 75
    assert done.stdout == ""
    assert "evaluating: no engine sampled a token for 0.5 s; the process ends with exit code 75" in done.stderr
    assert (
        "  rank 0: sampling, 8 running, 56 waiting, longest running answer 4,321 tokens, 12,345 tokens sampled\n"
        "  rank 1: down since 12 s, 0 running, 0 waiting, longest running answer unknown, 9 tokens sampled\n"
    ) in done.stderr
    assert "in hang_in_the_engine" in done.stderr
    assert "watchdog.py" in done.stderr  # The other thread's stack.


@pytest.mark.parametrize("how", ["hang_with_the_interpreter", "hang_in_status"])
def test_a_process_that_cannot_even_watch_itself_ends_with_its_stacks(how):
    done = run(how, 0.5)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"in {how}" in done.stderr


def test_a_slow_engine_is_not_ended_nor_what_comes_after_it():
    done = run("move_slowly", 1.5)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")


def test_a_process_that_was_suspended_has_not_stalled():
    command = [sys.executable, "-c", PROGRAM, "wait_to_be_suspended", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(4)
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=60) == ("the end\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize("limit_s", [0.0, -1.0, float("nan")])
def test_a_limit_that_is_no_time_is_refused(limit_s):
    with pytest.raises(SettingError, match="stall limit"), watch(None, stall_limit_s=limit_s):
        pass
