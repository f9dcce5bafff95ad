"""The tiny model learns from a teacher on its own samples: the divergence falls, and it is right about as often."""

import json
import random
from itertools import islice
from pathlib import Path
from statistics import fmean

import pytest
import torch
from polaris_data import Problem, synthetic_problems, to_prompt, write_problems
from polaris_data.problems import generate_chains, write_solution
from polaris_eval.scores import paired_difference
from polaris_rollout.store import read_groups
from transformers import AutoModelForCausalLM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

STEPS, LATE, TRACES = 24, 4, 48 * 32

SFT = """
model = "tiny"
problems = "synthetic"
max_prompt_tokens = 256
[evaluation]
benchmarks = []
[[stages]]
kind = "sft"
name = "worked"
traces = "traces.jsonl"
traces_per_step = 32
validation_traces = 0
learning_rate = 3e-4
context = 512
"""


def train_teacher(folder, command):
    """Fine-tune the tiny model on answers in full, which it gives in one of eight cases; return the result."""
    with (folder / "traces.jsonl").open("w") as file:
        for question, chain in islice(generate_chains(random.Random(1), split="train"), TRACES):
            asked = to_prompt(Problem(problem_id="", question=question, references=(str(chain.answer),)))
            turns = zip(("user", "assistant"), (asked, write_solution(chain)), strict=True)
            file.write(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
    (folder / "sft.toml").write_text(SFT)
    done = command("polaris-train", "sft", "sft.toml", "--out", "teacher", cwd=folder, timeout=1800)
    assert done.returncode == 0, done.stderr
    return folder / "teacher" / "worked" / "model"


def divergence(teacher, rollout):
    """The mean of ``log p_policy - log p_teacher`` over sampled tokens: the engine's and those of transformers."""
    model = AutoModelForCausalLM.from_pretrained(teacher, dtype=torch.float32)
    gaps = []
    for group in read_groups(rollout):
        prompt = group.prompt_token_ids
        for said in group.completions:
            with torch.no_grad():
                logits = model(torch.tensor([prompt + said.token_ids])).logits[0, len(prompt) - 1 : -1]
            found = logits.log_softmax(-1)[range(len(said.token_ids)), said.token_ids]
            gaps += (torch.tensor(said.logprobs) - found).tolist()
    return fmean(gaps)


def held_out(stage, step):
    """What was correct among the answers to each held-out problem."""
    lines = (stage / "eval" / f"step-{step:06d}" / "held-out" / "completions.jsonl").read_text().splitlines()
    found = {(each := json.loads(line))["problem_id"]: each["completions"] for line in lines}
    return [[said["outcome"] == "correct" for said in found[name]] for name in sorted(found)]


def test_the_tiny_model_learns_on_its_own_samples_what_a_teacher_does(tmp_path, command, capsys):
    write_problems(tmp_path / "problems.jsonl", synthetic_problems(320, seed=4, split="train"))
    teacher = train_teacher(tmp_path, command)
    done = command(
        "polaris-train", "stage", "tiny-cpu", "stage-1", "--out", "run", "--problems", "problems.jsonl",
        "--set", f"distillation.teacher={teacher}", "--set", f"stages.0.steps={STEPS}",
        "--set", "stages.0.temperature=1", "--set", f"evaluate_every={STEPS}", "--set", "held_out=64",
        cwd=tmp_path, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stage = Path(tmp_path / "run" / "stage-1")
    records = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    reverse_kl = [each["reverse_kl"] for each in records]
    gain = paired_difference(held_out(stage, 0), held_out(stage, STEPS))
    with capsys.disabled():
        print(f"\nreverse KL {[round(each, 3) for each in reverse_kl]}\nheld-out accuracy {gain}")
    assert reverse_kl[0] == pytest.approx(divergence(teacher, stage / "rollouts" / "step-000001.parquet"), abs=1e-4)
    assert fmean(reverse_kl[-LATE:]) < reverse_kl[0] / 2
    assert gain.interval[0] > 0
