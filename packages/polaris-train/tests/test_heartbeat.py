"""Ranks that hear of each other: whoever is behind is named, and a run in which nothing moves ends."""

import json
import pickle
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from polaris_train.run_folder import StageFolder
from polaris_train.stage.heartbeat import stall_message

LIMIT_S = 12

RANK = """
import sys, time
from datetime import timedelta
from pathlib import Path
import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from polaris_train.run_folder import StageFolder
from polaris_train.stage.heartbeat import Heartbeat

what, folder = sys.argv[1], Path(sys.argv[2])
rank, port, limit_s = map(int, sys.argv[3:])
store = dist.TCPStore("127.0.0.1", port, 2, is_master=rank == 0)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=600))
heart = Heartbeat(PrefixStore("heartbeat", store), StageFolder(folder), stall_limit_s=limit_s)


def late(answers):
    time.sleep(600)


with heart.watched():
    for step in range(3):
        with heart.phase("sample"):
            dist.barrier()
            if what == "grader" and rank == 1:
                heart.graded(late)([("", ()), ("", ())])
        with heart.phase("update"):
            dist.all_reduce(torch.ones(3))
            print("ready", flush=True)
            if what == "collective" and rank == 1 and step == 1:
                time.sleep(600)
            if what == "progress" and rank == 1 and step == 1:
                for _ in range(int(2 * limit_s)):  # the other waits longer than the limit, for one that works
                    time.sleep(1)
                    heart._count()
            if what == "stopped":
                time.sleep(1)
dist.barrier()
dist.destroy_process_group()
"""


class Ranks:
    """Two processes that meet; what they print is read when they have ended."""

    def __init__(self, what, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", RANK, what, str(folder), str(rank), str(port), str(LIMIT_S)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for rank in range(2)
        ]  # fmt: skip

    def end(self, *ranks):
        """Return the exit codes and what the ranks said on stderr."""
        said = [self.processes[rank].communicate(timeout=300)[1] for rank in ranks]
        return [self.processes[rank].returncode for rank in ranks], said


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run" / "stage-1").mkdir(parents=True)
    return tmp_path / "run" / "stage-1"


@pytest.mark.slow
def test_a_rank_that_does_not_come_to_a_collective_is_named_and_all_leave_their_stacks(folder):
    codes, said = Ranks("collective", folder).end(0, 1)
    (speaking,) = [rank for rank in (0, 1) if "nothing has moved" in said[rank]]
    teller = said[speaking]
    assert codes[speaking] == 75 and codes[1 - speaking] in (75, 1), (
        said
    )  # 1: its collective broke off as the other ended
    assert f"run/stage-1: nothing has moved for {LIMIT_S} s: the others wait for rank 1, which is in 'update'" in teller
    assert re.search(
        r"rank 0: process \d+ on \S+, 'sample' .*; 5 collectives, the last gloo:barrier .*, not ended", teller
    )
    left = sorted(path.name for path in (folder / "stalled").iterdir())
    assert left == ["collectives-0", "collectives-1", "stacks-0.txt", "stacks-1.txt"]
    assert "in <module>" in (folder / "stalled" / "stacks-1.txt").read_text()
    entries = pickle.loads((folder / "stalled" / "collectives-0").read_bytes())["entries"]
    assert [entry["profiling_name"] for entry in entries][-1] == "gloo:barrier"


@pytest.mark.slow
def test_a_rank_that_is_stopped_is_named_by_the_other(folder):
    ranks = Ranks("stopped", folder)
    assert ranks.processes[1].stdout.readline() == "ready\n"
    ranks.processes[1].send_signal(signal.SIGSTOP)
    try:
        (code,), (said,) = ranks.end(0)
    finally:
        ranks.processes[1].kill()
        ranks.end(1)
    assert code == 75
    assert "rank 1 gives no sign of life" in said
    assert re.search(r"rank 1: .*; silent for \d+ s, its process is in state T \(stopped\)", said)


@pytest.mark.slow
def test_answers_that_stay_at_the_grader_are_told(folder):
    codes, said = Ranks("grader", folder).end(0, 1)
    assert 75 in codes and 0 not in codes
    assert "wait for rank 1, which is in 'sample' after 0 steps, with 2 answers at the grader" in "".join(said)


@pytest.mark.slow
def test_a_rank_may_wait_for_another_that_moves_and_the_folder_says_where_all_are(folder):
    ranks = Ranks("progress", folder)
    seen = []
    while ranks.processes[0].poll() is None:
        if (folder / "heartbeat.json").exists():
            seen.append(json.loads((folder / "heartbeat.json").read_text())["ranks"])
        time.sleep(0.5)
    codes, said = ranks.end(0, 1)
    assert codes == [0, 0], said
    assert [each["rank"] for each in seen[-1]] == [0, 1]
    assert not (folder / "heartbeat.json").exists() and not (folder / "stalled").exists()


def beat(rank, *, entered, number, **changed):
    return {
        "rank": rank, "host": "node-1", "process": 100 + rank, "steps": 7, "phase": "update", "seconds": 9.5,
        "entered": entered, "grading": 0, "engines": [], "collectives": {"number": number, "last": "gloo:all_gather"},
    } | changed  # fmt: skip


BEHIND = {
    "the others wait for rank 1, which is in 'sample' after 7 steps": (
        [beat(0, entered=5, number=3), beat(1, entered=4, number=9, phase="sample"), beat(2, entered=5, number=3)], {},
    ),
    "the others wait for rank 0, 2, which is in 'update' after 7 steps": (
        [beat(0, entered=5, number=3), beat(1, entered=5, number=4), beat(2, entered=5, number=3)], {},
    ),
    "all ranks are in 'update' after 7 steps": ([beat(0, entered=5, number=3), beat(1, entered=5, number=3)], {}),
    "it is in 'checkpoint' after 7 steps": ([beat(0, entered=5, number=3, phase="checkpoint")], {}),
    "rank 1 gives no sign of life": ([beat(0, entered=5, number=3), beat(1, entered=5, number=3)], {1: 30.0}),
    "it is in 'sample' after 7 steps, with 12 answers at the grader": (
        [beat(0, entered=5, number=3, phase="sample", grading=12)], {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("blamed", BEHIND)
def test_the_rank_that_is_behind_is_blamed(blamed, tmp_path):
    beats, silent_s = BEHIND[blamed]
    said = stall_message(beats, silent_s, folder=StageFolder(tmp_path / "run" / "stage-1"), stall_limit_s=60)
    assert said.startswith(f"run/stage-1: nothing has moved for 60 s: {blamed}")
    assert said.count("\n  rank ") == len(beats)
    assert "exit code 75, and the same command continues" in said
