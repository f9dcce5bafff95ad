"""What the answers for rescue cost at full size: memory of a rank, seconds of a step and of a checkpoint.

Run as ``python tests/bench/rescue.py``: a buffer of 40,000 made-up answers of 7,000 tokens, filled step by step as
training fills it, in a temporary folder. The answers repeat, so that their files are smaller than real ones would be.
Rank 0 is measured, which reads and writes the files; the others only know which step sampled which answer. Answers that
are read back must be those that were kept. Ends with exit code 1 where memory or checkpoint take more than they may.
"""

import argparse
import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from polaris_reward import Outcome
from polaris_rollout import Completion, Group
from polaris_train.embedded import tiny_model
from polaris_train.grpo import RescueBuffer
from polaris_train.model import load_policy, policy_optimizer
from polaris_train.records import GradedGroup
from polaris_train.run_folder import Checkpoints, StepFiles
from polaris_train.stage.checkpoint import Checkpointer
from polaris_train.stage.monitor import resident_bytes
from polaris_train.stage.training_state import TrainingState

MOST_GIB, MOST_CHECKPOINT_S = 1.0, 2.0
NUM_TEXTS = 16
"""Different answers, each with a first token of its own; making 280 million tokens one by one would take the time."""


def main() -> int:
    """Fill a buffer, read from it, write checkpoints with and without it, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=40_000)
    parser.add_argument("--tokens", type=int, default=7_000, help="of an answer")
    parser.add_argument("--per-step", type=int, default=512, help="answers that a step keeps")
    parser.add_argument("--rescued", type=int, default=64, help="answers that a later step takes")
    parser.add_argument("--checkpoints", type=int, default=5, help="with and without the buffer")
    options = parser.parse_args()
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    try:
        with tempfile.TemporaryDirectory() as name:
            return measure(Path(name), options)
    finally:
        dist.destroy_process_group()


def measure(folder: Path, options: argparse.Namespace) -> int:
    """Print the figures; return the exit code."""
    buffer = RescueBuffer(StepFiles(folder / "rescue"), max_age=options.answers, max_tokens=options.tokens, seed=0)
    texts = [made_up(options.tokens, seed=seed) for seed in range(NUM_TEXTS)]
    fill(RescueBuffer(StepFiles(folder / "first"), max_age=9, max_tokens=options.tokens, seed=0), texts, 1, 1)
    gc.collect()
    before = resident_bytes()
    seconds = fill(buffer, texts, options.answers, options.per_step)
    gc.collect()
    resident = (resident_bytes() - before) / 2**30
    on_disk = sum(path.stat().st_size for path in (folder / "rescue").iterdir()) / 2**30
    print(f"{len(buffer.stored):,} answers of {options.tokens:,} tokens: {on_disk:.2f} GiB on disk")
    print(
        f"resident: {resident:.3f} GiB; a step keeps {options.per_step} in {statistics.median(seconds):.2f} s (median)"
    )
    took = rescue(buffer, texts, options.rescued)
    after = (resident_bytes() - before) / 2**30
    print(f"a step takes {options.rescued} in {took:.2f} s; resident then {after:.3f} GiB")
    with_it, without = checkpoint(folder, buffer, options.checkpoints)
    print(f"checkpoint: {with_it:.3f} s with them, {without:.3f} s without; {with_it - without:+.3f} s")
    is_within = max(resident, after) <= MOST_GIB and with_it - without <= MOST_CHECKPOINT_S
    print(f"{'within' if is_within else 'NOT WITHIN'} {MOST_GIB:g} GiB and {MOST_CHECKPOINT_S:g} s")
    return 0 if is_within else 1


def made_up(num_tokens: int, *, seed: int) -> Completion:
    """Return an answer of random tokens; text and log-probabilities take as much room as real ones."""
    draw = random.Random(seed)
    return Completion(
        token_ids=(seed, *(draw.randrange(151_936) for _ in range(num_tokens - 1))),
        logprobs=tuple(-draw.expovariate(3.0) for _ in range(num_tokens)),
        text="".join(draw.choices("abcdefghijklmnop \\{}=+0123456789", k=4 * num_tokens)),
        finish_reason="stop",
    )


def fill(buffer: RescueBuffer, texts: Sequence[Completion], num_answers: int, per_step: int) -> list[float]:
    """Keep an answer of each problem, some in each step; return the seconds of the steps."""
    seconds: list[float] = []
    for step, first in enumerate(range(0, num_answers, per_step), start=1):
        rollout = [group(number, texts, right=True) for number in range(first, min(first + per_step, num_answers))]
        started = time.perf_counter()
        buffer.rescue(rollout, step=step)
        seconds.append(time.perf_counter() - started)
    return seconds


def rescue(buffer: RescueBuffer, texts: Sequence[Completion], number: int) -> float:
    """Let groups that failed take answers of all steps; return the seconds."""
    step = max(buffer.stored.values()) + 1
    chosen = random.Random(0).sample(range(len(buffer.stored)), number)
    started = time.perf_counter()
    rescued = buffer.rescue([group(each, texts, right=False) for each in chosen], step=step)
    took = time.perf_counter() - started
    for each, after in zip(chosen, rescued, strict=True):
        assert after.rescued is not None, f"problem {each} was not rescued"
        assert after.group.completions[after.rescued].token_ids == texts[each % len(texts)].token_ids
    return took


def group(number: int, texts: Sequence[Completion], *, right: bool) -> GradedGroup:
    """Return a group of two answers, the second of them wrong; the first is right or wrong."""
    wrong = Completion(token_ids=(1,), logprobs=(0.0,), text="", finish_reason="stop")
    return GradedGroup(
        group=Group(
            problem_id=f"a-dataset-{number:06d}",
            prompt_token_ids=tuple(range(100)),
            completions=(texts[number % len(texts)] if right else wrong, wrong),
        ),
        outcomes=(Outcome.CORRECT if right else Outcome.INCORRECT, Outcome.INCORRECT),
        answers=("1", None),
    )


def checkpoint(folder: Path, buffer: RescueBuffer, number: int) -> tuple[float, float]:
    """Return the median seconds of a whole checkpoint of the embedded model with the buffer, and with an empty one."""
    policy = load_policy(str(tiny_model()), device=torch.device("cpu"), context=512)
    optimizer = policy_optimizer(policy, learning_rate=1e-6)
    empty = RescueBuffer(StepFiles(folder / "none"), max_age=1, max_tokens=1, seed=0)
    checkpointer = Checkpointer(Checkpoints(folder / "checkpoints"), keep=1, identity={})
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for step in range(1, 2 * number + 3):  # The first two warm up.
        is_full = step % 2 == 0
        state = TrainingState(
            policy=policy, optimizer=optimizer, scaler=scaler, rescue=buffer if is_full else empty, step=step
        )
        started = time.perf_counter()
        checkpointer.save(state, {})
        checkpointer.wait()
        if step > 2:
            seconds[is_full].append(time.perf_counter() - started)
    checkpointer.close()
    return statistics.median(seconds[True]), statistics.median(seconds[False])


if __name__ == "__main__":
    sys.exit(main())
