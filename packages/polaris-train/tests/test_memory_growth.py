"""The alarm of growing memory rings for a leak, and seldom for anything else."""

import math
import mmap
import random

import pytest
import torch.distributed as dist
from polaris_train.stage.levels import GROWTH
from polaris_train.stage.monitor import GROWTH_BLOCK, GROWTH_BLOCKS, GROWTH_WARM_UP, ResidentMemory, growth

STEPS = 300
WINDOW = GROWTH_BLOCKS * GROWTH_BLOCK

LEAK_MIB = 4
"""That a step keeps: 240 MiB over the window are more than the level's share of any process that runs tests."""


def rings(curve):
    """Whether the alarm rings at any step, by the rule that `ResidentMemory` states."""
    for step in range(GROWTH_WARM_UP + WINDOW, len(curve) + 1, GROWTH_BLOCK):
        low, _ = growth(curve[:step])
        if low * WINDOW > GROWTH * curve[step - 1]:
            return True
    return False


def noise(rng, size):
    return [10 + size * rng.gauss(0, 1) for _ in range(STEPS)]


def walk(rng, size, drift=0.0):
    held = [10.0]
    while len(held) < STEPS:
        held.append(held[-1] + drift + size * rng.gauss(0, 1))
    return held


def autoregressive(rng, size, kept=0.9):
    above = [0.0]
    while len(above) < STEPS:
        above.append(kept * above[-1] + size * rng.gauss(0, 1))
    return [10 + each for each in above]


def jump(rng):
    at = rng.randrange(STEPS)
    return [each + 2 * (step > at) for step, each in enumerate(noise(rng, 0.05))]


def largest_so_far(rng):
    """What an allocator keeps that never gives back: the largest step so far."""
    held, largest = [], 0.0
    for _ in range(STEPS):
        largest = max(largest, rng.lognormvariate(0, 0.5))
        held.append(10 + largest + rng.gauss(0, 0.01))
    return held


def caches(rng):
    filled = [3 * (1 - math.exp(-step / 30)) for step in range(STEPS)]
    return [each + more for each, more in zip(noise(rng, 0.03), filled, strict=True)]


SILENT = {  # GiB of a process of 10; at most so large a share of 300-step runs with an alarm
    "noise of 3%": (lambda rng: noise(rng, 0.3), 0.0),
    "noise of 0.3%": (lambda rng: noise(rng, 0.03), 0.0),
    "noise that lasts": (lambda rng: autoregressive(rng, 0.1), 0.02),
    "a walk of 0.1% a step": (lambda rng: walk(rng, 0.01), 0.03),
    "a walk of 0.5% a step": (lambda rng: walk(rng, 0.05), 0.1),
    "one jump of 20%": (jump, 0.0),
    "the largest step so far": (largest_so_far, 0.02),
    "caches that fill": (caches, 0.02),
    "a growth that is worth nothing": (lambda rng: walk(rng, 0.0001, drift=0.001), 0.0),
}

LEAKS = {
    "0.05% a step in noise of 0.2%": lambda rng: [e + 0.005 * n for n, e in enumerate(noise(rng, 0.02))],
    "0.1% a step in noise of 0.5%": lambda rng: [e + 0.01 * n for n, e in enumerate(noise(rng, 0.05))],
    "0.1% a step with a walk of half as much": lambda rng: walk(rng, 0.005, drift=0.01),
}


@pytest.mark.parametrize("kind", SILENT)
def test_what_is_no_leak_seldom_rings(kind):
    draw, most = SILENT[kind]
    rung = [rings(draw(random.Random(seed))) for seed in range(50)]
    print(f"{kind}: {sum(rung)} of {len(rung)}")
    assert sum(rung) <= most * len(rung)


@pytest.mark.parametrize("kind", LEAKS)
def test_a_leak_rings(kind):
    rung = [rings(LEAKS[kind](random.Random(seed))) for seed in range(50)]
    print(f"{kind}: {sum(rung)} of {len(rung)}")
    assert sum(rung) >= 0.9 * len(rung)


def test_the_interval_of_a_line_is_its_slope():
    line = [10 + 0.25 * step for step in range(GROWTH_WARM_UP + WINDOW)]
    assert growth(line) == pytest.approx((0.25, 0.25))
    assert growth(line[:-1]) is None and growth([*line, 0.0]) is None  # between blocks nothing is decided


def test_the_interval_is_the_mean_rise_and_its_spread_by_hand():
    """Rises of 1 and 2 in turn between ten blocks of six equal values: 5 ones and 4 twos."""
    means = [0.0, 1, 3, 4, 6, 7, 9, 10, 12, 13]
    held = [0.0] * GROWTH_WARM_UP + [100 + each for each in means for _ in range(6)]
    deviation = math.sqrt((5 * (1 - 13 / 9) ** 2 + 4 * (2 - 13 / 9) ** 2) / 8)
    low, high = (6 * end for end in growth(held))
    assert (low + high) / 2 == pytest.approx(13 / 9)
    assert (high - low) / 2 == pytest.approx(5.04 * deviation / 3)


@pytest.fixture
def alone():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_real_leak_is_found_and_named(alone):
    memory, leaked, said = ResidentMemory(), [], []
    for _ in range(GROWTH_WARM_UP + WINDOW):
        leaked.append(mmap.mmap(-1, LEAK_MIB << 20))  # A byte array might take what earlier tests gave back.
        leaked[-1].write(b"x" * (LEAK_MIB << 20))
        said.append(memory.measure())
    assert not any(each["alarms"] for each in said[:-1])
    (alarm,) = said[-1]["alarms"]
    assert alarm.startswith("memory of rank 0 is ") and " MiB a step: end the stage" in alarm
    grown = said[-1]["resident_gib"]["0"] - said[GROWTH_WARM_UP]["resident_gib"]["0"]
    assert grown * 1024 == pytest.approx(LEAK_MIB * (WINDOW - 1), rel=0.1)
