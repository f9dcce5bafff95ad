"""What a phase is said to cost is what it cost."""

import time

import pytest
import torch
from polaris_train.stage.monitor import Phases

MIB = 2**20


def test_each_phase_has_its_own_seconds():
    phases = Phases()
    with phases.phase("short"):
        pass
    with phases.phase("long"):
        time.sleep(0.05)
    assert phases.seconds.keys() == phases.peak_memory_gib.keys() == {"short", "long"}
    assert phases.seconds["long"] >= 0.05 > 0 <= phases.seconds["short"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="peak memory is then that of the GPU")
def test_memory_that_is_given_back_within_a_phase_is_its_peak_and_not_that_of_the_next():
    phases = Phases()
    with phases.phase("before"):
        pass
    with phases.phase("large"):
        block = torch.ones(64 * MIB, dtype=torch.float32)
        del block
    with phases.phase("after"):
        pass
    large, after = (phases.peak_memory_gib[name] - phases.peak_memory_gib["before"] for name in ("large", "after"))
    assert large * 1024 == pytest.approx(256, abs=16)
    if phases.peak_memory_gib["after"] == phases.peak_memory_gib["large"]:
        pytest.skip("this kernel does not set the peak back")
    assert after * 1024 < 16


@pytest.mark.gpu
def test_the_peak_of_a_gpu_is_measured():
    phases = Phases()
    with phases.phase("large"):
        block = torch.ones(64 * MIB, dtype=torch.float32, device="cuda")
        del block
    with phases.phase("after"):
        pass
    assert (phases.peak_memory_gib["large"] - phases.peak_memory_gib["after"]) * 1024 == pytest.approx(256, abs=1)
