r"""A task on which SFT, GRPO, LoRA, CORE and on-policy distillation can be compared, for ``polaris ablate``.

    python examples/other_ways_to_learn.py [FOLDER]
    polaris ablate FOLDER/other-ways.toml --tokens 400000 --seeds 3

The steps of a synthetic problem are its intermediate results. The demonstration model is taught to write all of them,
in ``\underline{}``: that is the teacher. The student is the teacher after it was taught to stop halfway, or before it
begins, and to guess: what the teacher would say is among what the student may say, else there would be nothing to find
by sampling. Both are made by ``polaris-train sft``, in a few minutes on two CPU cores.
"""

import json
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

from polaris_data import Problem, to_prompt, write_problems
from polaris_data.problems import generate_chains, synthetic_problems, write_solution

NUM_PROBLEMS, NUM_EVALUATED = 200, 128
"""So few to train on that each comes again within a stage, when what its right answers agree on is known."""

LEVELS = (2, 3, 4)
"""Of the problems: short enough that the teacher is right more often than not."""

TEACHER_STEPS, STUDENT_STEPS, TRACES_PER_STEP = 150, 20, 32
TEACHER, STUDENT = {"worked": 1.0}, {"direct": 0.2, "partial": 0.4, "worked": 0.4}
"""Shares of answer styles that each is taught."""

SFT = """
model = "{model}"
problems = "synthetic"
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
problems = "{folder}/train.jsonl"

prompts_per_step = 16
samples_per_prompt = 8
max_prompt_tokens = 256
learning_rate = 1e-4
clip_low = 0.2
clip_high = 0.28
checkpoint_every = 1000
evaluate_every = 20  # the best checkpoint of a stage is its result
held_out = 48

[data]
dedup = false
decontaminate = []
profile_temperature = 1.0
drop = []

[[stages]]
kind = "sft"
name = "sft"
traces = "profile"
epochs = 2
learning_rate = 3e-4
context = 512

[[stages]]
name = "rl"
context = 512
temperature = 1.0
steps = 40

[[arms]]
name = "sft"
label = "SFT on its own right answers"
stages = ["sft"]

[[arms]]
name = "direct"
label = "direct RL"
stages = ["rl"]

[[arms]]
name = "sft-rl"
label = "SFT, then RL"
before = "direct"

[[arms]]
name = "lora"
label = "direct RL, LoRA"
stages = ["rl"]
set = ["lora.rank=64", "learning_rate=6e-4"]
before = "direct"

[[arms]]
name = "core"
label = "direct RL and CORE"
stages = ["rl"]
set = ["core={{}}"]
before = "direct"

[[arms]]
name = "distillation"
label = "on-policy distillation"
stages = ["rl"]
set = ["distillation.teacher={folder}/teacher/traces/model"]
before = "direct"

[evaluation]
benchmarks = ["{folder}/held-out.jsonl"]
samples = 8
temperature = 1.0
top_k = 0
yarn_context = 0
"""


def main(folder: str = "other-ways") -> None:
    """Write problems and recipe, and train teacher and student."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    for split, number in (("train", NUM_PROBLEMS), ("held-out", NUM_EVALUATED)):
        write_problems(out / f"{split}.jsonl", synthetic_problems(number, seed=0, split=split, levels=LEVELS))
    teacher = train(out, "teacher", TEACHER, num_steps=TEACHER_STEPS)
    train(out, "student", STUDENT, num_steps=STUDENT_STEPS, start=teacher)
    recipe = out / "other-ways.toml"
    recipe.write_text(RECIPE.format(folder=out))
    print(f"polaris ablate {recipe} --tokens 400000 --seeds 3")


def train(out: Path, name: str, shares: dict, *, num_steps: int, start: str | Path = "tiny") -> Path:
    """Write traces in these styles, every step underlined; return a model that was fine-tuned on them."""
    draw = random.Random(name)
    chains = islice(generate_chains(draw, split="train", levels=LEVELS), num_steps * TRACES_PER_STEP)
    with (out / f"{name}.jsonl").open("w") as file:
        for question, chain in chains:
            (style,) = draw.choices(list(shares), weights=list(shares.values()))
            problem = Problem(problem_id="", question=question, references=(str(chain.answer),))
            said = [to_prompt(problem), write_solution(chain, style, underline=True)]
            turns = zip(("user", "assistant"), said, strict=True)
            file.write(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
    recipe = out / f"{name}.toml"
    recipe.write_text(SFT.format(folder=out, model=start, name=name, per_step=TRACES_PER_STEP))
    subprocess.run([Path(sys.executable).with_name("polaris-train"), "sft", recipe, "--out", out / name], check=True)
    return out / name / "traces" / "model"


if __name__ == "__main__":
    main(*sys.argv[1:])
