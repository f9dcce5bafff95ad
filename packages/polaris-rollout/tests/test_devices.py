"""Which GPUs there are, by a fake nvidia-smi; how many engines that makes, and which of them each is given."""

import os

import pytest
import typer
from polaris_rollout import EngineSpec, visible_devices
from polaris_rollout.cli import engine_options
from polaris_rollout.engines.copies import _place_in_machine
from typer.testing import CliRunner

WHOLE = "".join(f"GPU {number}: NVIDIA H100 80GB HBM3 (UUID: GPU-{number}aaa-{number})\n" for number in range(8))
SLICED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-0aaa-0)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d)
  MIG 3g.20gb     Device  1: (UUID: MIG-a28ad590-3fda)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-1aaa-1)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with these GPUs, of which the variable shows some."""

    def make(listed, visible=None):
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{listed}END\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return make


@pytest.mark.parametrize(
    ("listed", "visible", "expected"),
    [
        (WHOLE, None, list("01234567")),
        (WHOLE, "2,5", ["2", "5"]),
        (WHOLE, "", []),
        (WHOLE, "NoDevFiles", []),
        (WHOLE, "0,9,1", ["0"]),  # CUDA reads no further than the first that is none.
        (WHOLE, "1,-1,2", ["1"]),
        (WHOLE, "GPU-3aaa-3, GPU-5a", ["GPU-3aaa-3", "GPU-5a"]),  # The beginning of a UUID is enough.
        (WHOLE, "GPU-9", []),
        (SLICED, None, ["MIG-c7384736-a75d", "MIG-a28ad590-3fda", "1"]),
        (SLICED, "MIG-a28ad590-3fda", ["MIG-a28ad590-3fda"]),
        ("No devices were found\n", None, []),
    ],
)
def test_the_devices_are_those_that_cuda_would_show(listed, visible, expected, machine):
    machine(listed, visible)
    assert visible_devices() == expected


def test_a_machine_without_nvidia_smi_has_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_devices() == []


def spec_of(*arguments):
    given = []
    app = typer.Typer()

    @app.command()
    @engine_options()
    def command(engine: EngineSpec) -> None:
        given.append(engine)

    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == 0, result.output
    return given[0], result.stderr


@pytest.mark.parametrize(
    ("visible", "arguments", "copies"),
    [
        (None, [], 8),
        (None, ["--tensor-parallel", "3"], 2),  # Two GPUs are left over.
        ("0,1", ["--tensor-parallel", "4"], 1),  # Too few, which the engine says.
        ("", [], 1),
        (None, ["--data-parallel", "3"], 3),
        (None, ["--endpoint", "http://a:1"], 1),
    ],
)
def test_there_is_an_engine_for_all_gpus_that_one_copy_needs(visible, arguments, copies, machine):
    machine(WHOLE, visible)
    spec, said = spec_of(*arguments)
    assert spec.data_parallel == copies
    derived = copies > 1 and "--data-parallel" not in arguments
    assert said == (f"8 GPUs: {copies} engines side by side (--data-parallel {copies})\n" if derived else "")


@pytest.mark.parametrize(
    ("listed", "visible", "settings", "expected"),
    [
        (WHOLE, None, {"data_parallel": 8}, list("01234567")),
        (WHOLE, None, {"data_parallel": 2, "tensor_parallel": 3}, ["0,1,2", "3,4,5"]),
        (WHOLE, "6,GPU-1a,3,0", {"data_parallel": 2, "tensor_parallel": 2}, ["6,GPU-1a", "3,0"]),
        (SLICED, None, {"data_parallel": 3}, ["MIG-c7384736-a75d", "MIG-a28ad590-3fda", "1"]),
        (WHOLE, "7", {"data_parallel": 2}, ["7", ""]),  # The second is told that it has none.
        ("", None, {"data_parallel": 2}, ["0", "1"]),
        ("", "4,5", {"data_parallel": 2}, ["4", "5"]),
    ],
)
def test_each_engine_is_given_gpus_of_its_own(listed, visible, settings, expected, machine):
    machine(listed, visible)
    spec = EngineSpec("m", **settings)
    places = range(spec.data_parallel)
    assert [_place_in_machine(place, spec)["CUDA_VISIBLE_DEVICES"] for place in places] == expected
