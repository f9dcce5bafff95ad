"""Every benchmark starts and gets to its end at a tiny size; its figures are for a quiet machine and for people."""

import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

BENCHES = Path(__file__).parent / "bench"
SHARED = Path(__file__).resolve().parents[2] / "shared"
FIGURES = SHARED / "facts" / "figures.json"

TINY = {
    "balance": ["--seeds", "2"],
    "diversity": ["--answers", "4", "--words", "200", "--runs", "1"],
    "eval": ["50"],
    "house": ["."],
}
"""Run whole each time."""

LONGER = {
    "adaptive": ["--figures", str(FIGURES), "--seeds", "1"],
    "ahead": ["OUT", "--steps", "3", "--runs", "1", "--prompts", "4", "--samples", "4"],
    "data": ["--problems", "600", "--compared", "200"],
    "eval_overhead": ["--problems", "4", "--samples", "2", "--rounds", "1"],
    "eval_peer": ["--runs", "1"],
    "gradients": ["--hidden", "256", "--microbatches", "1", "8"],
    "plan": ["--only", "0"],
    "reward": [],
    "sampling": ["--seconds", "1", "--rounds", "1"],
    "temperature": ["target", "--trials", "1", "--models", "Qwen3-4B", "--processes", "1"],
    "train": ["skewed", "--runs", "1", "--steps", "2"],
}
"""Run whole where slow tests are; else they only start, with all that they import, and say what they take."""

IN_PROCESS = {"gpu", "train_ways"}
"""Run in this process, which has imported what they need."""


def arguments_of(name, folder):
    given = (TINY | LONGER)[name]
    if name in ("adaptive", "temperature", "reward") and not FIGURES.is_file():
        pytest.skip("no ../shared beside the repository")
    if name == "eval_peer" and importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm-eval is not installed; see the script's first lines")
    return [str(folder / "out") if each == "OUT" else each for each in given]


def run(name, folder, timeout):
    command = [sys.executable, str(BENCHES / f"{name}.py"), *arguments_of(name, folder)]
    environment = os.environ | {"TMPDIR": str(folder)}
    root = BENCHES.parents[1]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=timeout)


def test_every_benchmark_is_listed_here():
    assert {path.stem for path in BENCHES.glob("*.py")} == {*TINY, *LONGER, *IN_PROCESS}


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_gets_to_its_end(name, tmp_path):
    done = run(name, tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LONGER)
def test_a_longer_benchmark_gets_to_its_end(name, tmp_path):
    done = run(name, tmp_path, timeout=3000)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("name", LONGER)
def test_a_longer_benchmark_starts_and_says_what_it_takes(name, monkeypatch, capsys):
    """In this process: most of the time would go to importing what it has already."""
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.syspath_prepend(BENCHES)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHES / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_the_benchmark_of_a_gpu_prints_its_table_on_a_cpu_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu", "--shape", "tiny", "--steps", "1"])
    runpy.run_path(str(BENCHES / "gpu.py"), run_name="__main__")
    table = capsys.readouterr().out
    assert table.count("tiny") == 4  # of two lengths, trained whole and as adapters
    assert "does not fit" not in table


def test_a_step_of_ours_and_of_trl_are_measured_and_agree(tmp_path):
    """What the benchmark of training compares, on a model of a few thousand weights."""
    torch.manual_seed(0)
    shape = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True}
    Qwen3ForCausalLM(Qwen3Config(**shape, **heads, max_position_embeddings=64)).save_pretrained(tmp_path)
    ways = runpy.run_path(str(BENCHES / "train_ways.py"))["WAYS"]
    given = {"model": str(tmp_path), "lengths": [9, 4], "num_steps": 2, "learning_rate": 0.0}
    mine, theirs = ways["ours"](**given), ways["trl"](**given, gradient_checkpointing=False)
    for figure in ("loss", "grad_norm", "entropy"):
        assert mine[figure] == pytest.approx(theirs[figure], rel=1e-4, abs=1e-6), figure
    assert len(mine["seconds"]) == len(theirs["seconds"]) == 2
