"""Every benchmark does its work at a tiny size, and its sides compute the same; the figures are for quiet machines.

Those that need a server or a command with an engine of its own are marked slow; the others that sample share an engine.
"""

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from polaris_data import synthetic_problems
from polaris_rollout import SamplingParams
from polaris_rollout.models import stop_token_ids
from polaris_train.embedded import tiny_model

BENCHES = Path(__file__).parent / "bench"

WHOLE = {
    "balance": ["--seeds", "2"],
    "data": ["--problems", "1200", "--compared", "200"],
    "diversity": ["--answers", "4", "--words", "200", "--runs", "1"],
    "eval": ["50"],
    "house": ["."],
}
"""Run as they are, each in a process of its own."""

SLOW = {
    "adaptive": ["--tiny", "--num-problems", "16"],
    "ahead": ["OUT", "--steps", "3", "--runs", "1", "--prompts", "4", "--samples", "4"],
    "busy": ["--steps", "2", "--loops", "1", "--most", "1000"],
    "eval_overhead": ["--problems", "4", "--samples", "2", "--rounds", "1"],
    "eval_peer": ["--runs", "1", "--problems", "4", "--max-tokens", "32"],
    "gradients": ["--hidden", "256", "--microbatches", "2", "8"],
    "sampling": ["--seconds", "1", "--rounds", "1"],
    "sft": ["memory", "--runs", "1", "--steps", "2", "--longest", "64"],
    "train": ["memory", "--runs", "1", "--steps", "2", "--longest", "64"],
}
"""Run as they are where slow tests are."""

IN_PROCESS = {"gpu", "rescue", "reward", "sft_ways", "temperature", "train_ways"}
"""Run in this process alone, which has imported what they need, as those of `SLOW` but for two are too."""

ELSEWHERE = {"plan"}
"""Run by ``tests/test_plan_probe.py``."""

FIGURES = {
    "difficulty_deepscaler40k_8rollouts_T0.6": {
        "a model": {str(number): count for number, count in enumerate((40, 12, 10, 9, 9, 10, 12, 21, 70))}
    },
    "zones_qwen3_4b_aime24_mean32": {"T": [0.1, 0.6, 1.0, 1.4, 1.5, 1.6, 1.7], "acc": [70, 74, 74, 74, 70, 50, 30]},
    "diversity_vs_temperature_distinct4_x100": {
        "T": [0.1, 0.6, 1.0, 1.2, 1.4, 1.6],
        "Qwen3-4B": [28, 42, 47, 55, 63, 84],
    },
    "r1_7b_zone_shift(eye)": {
        "T": [0.4, 0.8, 1.2],
        "acc": {steps: [52, 53, 11] for steps in ("before", "400", "800")},
        "diversity": {steps: [45, 60, 90] for steps in ("before", "400", "800")},
    },
}
"""Of the form of published figures, made up."""


@pytest.fixture
def load(monkeypatch):
    """Return what is in a benchmark, as `runpy` does."""
    monkeypatch.syspath_prepend(BENCHES)
    return lambda name: runpy.run_path(str(BENCHES / f"{name}.py"))


@pytest.fixture
def start(monkeypatch, capsys):
    """Run a benchmark in this process, and return what it prints."""

    def run(name, *arguments):
        monkeypatch.syspath_prepend(BENCHES)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(BENCHES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def run_whole(name, arguments, folder, timeout):
    done = subprocess.run(
        [sys.executable, str(BENCHES / f"{name}.py"), *arguments],
        cwd=BENCHES.parents[1],
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_benchmark_is_listed_here():
    assert {path.stem for path in BENCHES.glob("*.py")} == {*WHOLE, *SLOW, *IN_PROCESS, *ELSEWHERE}


@pytest.mark.parametrize("name", WHOLE)
def test_a_benchmark_gets_to_its_end(name, tmp_path):
    assert run_whole(name, WHOLE[name], tmp_path, timeout=300)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SLOW)
def test_a_longer_benchmark_gets_to_its_end(name, tmp_path):
    arguments = [str(tmp_path / "out") if each == "OUT" else each for each in SLOW[name]]
    if name == "eval_peer" and importlib.util.find_spec("lm_eval") is None:
        arguments.append("--alone")
        assert "no peer beside it" in run_whole(name, arguments, tmp_path, timeout=3000)
    else:
        assert run_whole(name, arguments, tmp_path, timeout=3000)


@pytest.mark.parametrize("name", ["ahead", "busy", "eval_peer", "gradients"])
def test_a_benchmark_with_processes_of_its_own_starts_and_says_what_it_takes(name, start, capsys):
    with pytest.raises(SystemExit) as ended:
        start(name, "--help")
    assert ended.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_adaptive_profiling_decides_as_all_samples_do(start, tmp_path):
    (tmp_path / "figures.json").write_text(json.dumps(FIGURES))
    said = start("adaptive", "--figures", tmp_path / "figures.json", "--seeds", 1, "--iterations", 20)
    assert "drop 8/8                " in said  # it has made sure that the decisions are the same


def test_the_temperature_of_a_target_is_found_on_a_curve(load, tmp_path):
    (tmp_path / "figures.json").write_text(json.dumps(FIGURES))
    bench = load("temperature")
    bench["report_target"].__globals__["FIGURES"] = tmp_path / "figures.json"
    with ThreadPoolExecutor(1) as pool:
        trials = bench["report_target"](pool, range(2), bench["World"](), "Qwen3-4B", 0.6)
        bench["report_zones"](pool, range(1), "Qwen3-4B", bench["World"]())
    truth = bench["curves"]()["Qwen3-4B"].temperature_of(0.6)
    assert [trial.choice.temperature for trial in trials] == pytest.approx([truth] * 2, abs=0.1)


@pytest.mark.timeout(300)
def test_both_graders_judge_the_same_pairs(start, load, tmp_path):
    cases = [
        {"kind": "answer-vs-answer", "gold": r"\frac{1}{2}", "prediction": "0.5", "expected": True},
        {"kind": "response", "gold": "7", "prediction": r"It is \boxed{8}.", "expected": False},
    ]
    (tmp_path / "grading.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    for number, name in enumerate(load("reward")["BENCHMARKS"]):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"answer": rf"\frac{{1}}{{{number + 2}}}"}) + "\n")
    said = start("reward", "--cases", tmp_path, "--data", tmp_path, "--at-most", 3, "--runs", 1)
    for title, pairs in (("integers and fractions", 3), ("all of grading.jsonl", 2)):
        table = said.partition(f"{title}: {pairs} pairs")[2].splitlines()[2:5]
        assert [line.split("x  ")[1].split() for line in table] == [["100.0%", "0", "0"]] * 3, said
    assert "with 1 bombs" in said and "LATE" not in said


def test_answers_for_rescue_are_read_as_they_were_kept(start, capsys):
    sizes = "--answers 48 --tokens 50 --per-step 16 --rescued 8 --checkpoints 1"
    with pytest.raises(SystemExit):
        start("rescue", *sizes.split())  # which compares what is read
    assert "48 answers of 50 tokens" in capsys.readouterr().out


def test_the_benchmark_of_a_gpu_prints_its_table_on_a_cpu_too(start):
    table = start("gpu", "--shape", "tiny", "--steps", "1")
    assert table.count("tiny") == 4  # of two lengths, trained whole and as adapters
    assert "does not fit" not in table


def test_a_step_is_the_same_whenever_its_gradients_are_shared_out(load, monkeypatch, capsys, tmp_path):
    """As a rank that is alone takes it, in this process; memory is compared where that has nothing else in it."""
    bench = load("gradients")
    bench["write_model"](tmp_path, 64)
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}.items():
        monkeypatch.setenv(name, str(value))
    found = {}
    for number, each in [(2, "last"), (2, "each"), (4, "each")]:
        bench["measure"](str(tmp_path), number, reduce_each=each == "each")
        found[number, each] = json.loads(capsys.readouterr().out) | {"mib": 100.0}
    assert bench["agree"](found | {(4, "last"): found[4, "each"]}, [2, 4])
    assert found[2, "each"]["norm"] > 0 and found[2, "each"] != found[4, "each"]
    for name in ("mib", "loss", "norm"):
        wrong = found[4, "each"] | {name: found[4, "each"][name] * 1.11}
        assert not bench["agree"](found | {(4, "each"): wrong, (4, "last"): found[4, "each"]}, [2, 4]), name


def test_peaks_of_gradients_are_not_called_constant_where_none_is_compared(start, capsys):
    with pytest.raises(SystemExit) as ended:
        start("gradients", "--microbatches", 1, 8)
    assert ended.value.code == 2
    assert "give two numbers of micro-batches above 1" in capsys.readouterr().err


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "head_dim": 8, "vocab_size": 2048}


@pytest.mark.parametrize("name", ["train", "sft"])
def test_steps_of_ours_and_of_trl_are_measured_and_agree(name, load):
    """Each way in this process; loss, gradient norm and entropy are compared where the figures are."""
    ways, bench = load(f"{name}_ways")["WAYS"], load(name)
    compare = bench["compare_steps"]
    compare.__globals__["run_way"] = lambda way, program=None, **options: ways[way](**options)
    lengths = [128] + [8] * 7
    report = compare(SMALL, lengths, runs=1, num_steps=2, learning_rate=0.0)
    assert report["same"]["loss"] and report["same"]["grad_norm"]
    assert report["times_polaris"].keys() == {"peak_mib", "seconds", "cpu_seconds"}


@pytest.fixture(scope="module")
def engine():
    """One for all benchmarks that sample; last in this file, as it takes the process group that others start."""
    from polaris_rollout.engines import VllmSampler

    with VllmSampler("tiny") as sampler:
        yield sampler


def test_our_driver_draws_what_a_bare_engine_draws(load, engine, capsys):
    bench = load("sampling")
    runs = bench["measure"](engine, bench["sides_of"](engine, "tiny"), bench["to_prompts"](3), num_rounds=1)
    bench["report"](runs)  # which compares the tokens
    assert "the same from all sides" in capsys.readouterr().out


def test_an_evaluation_draws_what_a_bare_engine_draws(load, engine, capsys):
    bench = load("eval_overhead")
    problems, params = synthetic_problems(3, seed=7, split="held-out"), SamplingParams(temperature=1.0, seed=1)
    model = str(tiny_model())
    ours = partial(bench["run_ours"], engine, problems, params, 2, model)
    bare = partial(bench["run_bare"], engine, problems, params, 2, stop_token_ids(model))
    bench["report"](bench["measure"](engine, ours, bare, num_rounds=1))
    assert "6 completions" in capsys.readouterr().out
