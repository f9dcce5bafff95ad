r"""A task on which GRPO, CORE and on-policy distillation can be compared, for ``polaris ablate``.

    python examples/other_ways_to_learn.py [FOLDER]
    polaris ablate FOLDER/other-ways.toml --arms plain,core,distillation --tokens 400000 --seeds 3

The steps of a synthetic problem are its intermediate results. The demonstration model is taught to put them into
``\underline{}`` and to guess in a third of its answers: that is the student. The teacher is the
same model, taught longer and to write every step. Both by ``polaris-train sft``, in a few minutes on two CPU cores.
"""

import json
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

from polaris_data import Problem, to_prompt, write_problems
from polaris_data.problems import generate_chains, synthetic_problems, write_solution

NUM_PROBLEMS = 1600
STUDENT_STEPS, TEACHER_STEPS, TRACES_PER_STEP = 60, 90, 32
STUDENT, TEACHER = {"direct": 0.35, "partial": 0.25, "worked": 0.4}, {"worked": 1.0}
"""Shares of answer styles that each is taught."""

SFT = """
model = "tiny"
problems = "{folder}/problems.jsonl"
max_prompt_tokens = 256
checkpoint_every = 1000
[evaluation]
benchmarks = []
[[stages]]
kind = "sft"
name = "traces"
traces = "{folder}/{name}.jsonl"
traces_per_step = {per_step}
validation_traces = 0
learning_rate = 1e-3
context = 512
"""

RECIPE = """
model = "{folder}/student/traces/model"
problems = "{folder}/problems.jsonl"

prompts_per_step = 16
samples_per_prompt = 8
max_prompt_tokens = 256
learning_rate = 1e-4
clip_low = 0.2
clip_high = 0.28
checkpoint_every = 1000
evaluate_every = 20  # the best checkpoint of a stage is its result
held_out = 48

[core]

[distillation]
teacher = "{folder}/teacher/traces/model"

[data]
decontaminate = []
select = []
drop = []

[[stages]]
name = "stage-1"
context = 512
temperature = 1.0
steps = 40

[evaluation]
benchmarks = ["synthetic:held-out"]
limit = 128
samples = 8
temperature = 1.0
top_k = 0
yarn_context = 0
"""


def main(folder: str = "other-ways") -> None:
    """Write problems and recipe, and train student and teacher."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    write_problems(out / "problems.jsonl", synthetic_problems(NUM_PROBLEMS, seed=0, split="train"))
    train(out, "student", STUDENT, num_steps=STUDENT_STEPS)
    train(out, "teacher", TEACHER, num_steps=TEACHER_STEPS)
    recipe = out / "other-ways.toml"
    recipe.write_text(RECIPE.format(folder=out))
    print(f"polaris ablate {recipe} --arms plain,core,distillation --tokens 400000 --seeds 3")


def train(out: Path, name: str, shares: dict, *, num_steps: int) -> None:
    """Write traces in these styles, every step underlined, and fine-tune the demonstration model on them."""
    draw = random.Random(name)
    chains = islice(generate_chains(draw, split="train"), num_steps * TRACES_PER_STEP)
    with (out / f"{name}.jsonl").open("w") as file:
        for question, chain in chains:
            (style,) = draw.choices(list(shares), weights=list(shares.values()))
            problem = Problem(problem_id="", question=question, references=(str(chain.answer),))
            said = [to_prompt(problem), write_solution(chain, style, underline=True)]
            turns = zip(("user", "assistant"), said, strict=True)
            file.write(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
    recipe = out / f"{name}.toml"
    recipe.write_text(SFT.format(folder=out, name=name, per_step=TRACES_PER_STEP))
    subprocess.run([Path(sys.executable).with_name("polaris-train"), "sft", recipe, "--out", out / name], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
