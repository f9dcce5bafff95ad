"""The plan's memory beside the peak of real steps, each in a process of its own."""

import importlib.util
import sys
from pathlib import Path

import pytest
from polaris_train.cli.main import main

spec = importlib.util.spec_from_file_location("bench_plan", Path(__file__).parent / "bench" / "plan.py")
bench = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = bench
spec.loader.exec_module(bench)


def test_a_step_of_a_random_model_takes_what_the_plan_says(capsys):
    assert bench.compare([bench.CASES[0]]), capsys.readouterr().out


def test_the_cases_are_six_models_three_ranks_of_lora_and_other_ways_to_train():
    assert [case[-2] for case in bench.CASES] == [None] * 5 + [8, 16, 64] + [None] * 4
    assert len({case[:-2] for case in bench.CASES}) == 6
    settings = [case[-1] for case in bench.CASES]
    assert not any(settings[:8])
    assert settings[8:] == [
        {"activations": "recompute"},
        {"num_processes": 2},
        {"num_processes": 2, "reduce_each_microbatch": True},
        {},
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, len(bench.CASES)))
def test_each_case_takes_what_the_plan_says(number, capsys):
    assert bench.compare([bench.CASES[number]]), capsys.readouterr().out


@pytest.mark.slow
def test_the_command_probes_on_two_ranks(monkeypatch, capsys):
    arguments = ["plan", "tiny-cpu", "--probe", "--set", "num_processes=2", "--set", "stages.2.context=1024"]
    monkeypatch.setattr("sys.argv", ["polaris-train", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "stage-3: 2 steps of 2 micro-batches of 2,048 tokens on 2 rank(s) of this machine (cpu)" in said
    assert "GiB a rank measured" in said and "GiB planned" in said
