"""A task on which the parts of the recipe can be told apart, for ``polaris ablate``.

    python examples/ablation_task.py [FOLDER]
    polaris ablate FOLDER/calibrated.toml --tokens 400000 --seeds 5

The demonstration model on its own problems is a poor copy of what people have, in two ways that matter. Half of a raw
set is solved every time by the model to be trained (of the 146,000 problems that POLARIS began with, 64% were dropped
for that reason). And a model after instruction tuning is sharp: its accuracy hardly changes between temperatures 0.6
and 1.0 or more, while the demonstration model's falls from the first. So here half of the problems are of level 1, and
the model's logits are twice as large, which is the same model at half the temperature.
"""

import shutil
import sys
from pathlib import Path

from polaris_data import write_problems
from polaris_data.problems import synthetic_problems
from polaris_train.embedded import tiny_model
from safetensors.torch import load_file, save_file

NUM_PROBLEMS = 1600
LEVELS = (1, 2, 1, 3, 1, 4, 1, 5, 1, 6, 1, 7, 1, 8)
SHARPNESS = 2.0

RECIPE = """
model = "{folder}/model"
problems = "{folder}/problems.jsonl"

prompts_per_step = 16
samples_per_prompt = 8
max_prompt_tokens = 256
learning_rate = 3e-4
clip_low = 0.2
clip_high = 0.28
rescue_max_age = 20
checkpoint_every = 1000
evaluate_every = 20  # the best checkpoint of a stage is its result
held_out = 48

[data]
decontaminate = []
profile_temperature = 1.0
adaptive = true

[temperature]
num_problems = 16
answers = 20

[[stages]]
name = "stage-1"
context = 336
temperature = "auto"
steps = 20

[[stages]]
name = "stage-2"
context = 384
temperature = "auto"
steps = 20

[[stages]]
name = "stage-3"
context = 512
temperature = "auto"
steps = 20

[evaluation]
benchmarks = ["synthetic:held-out"]
limit = 128
samples = 8
temperature = 1.0
top_k = 0
yarn_context = 0
"""


def main(folder: str = "ablation-task") -> None:
    """Write model, problems and recipe."""
    out = Path(folder)
    shutil.copytree(tiny_model(), out / "model", dirs_exist_ok=True)
    weights = load_file(out / "model" / "model.safetensors")
    weights["model.norm.weight"] *= SHARPNESS  # of what the head sees, hence of all logits
    save_file(weights, out / "model" / "model.safetensors", metadata={"format": "pt"})
    write_problems(out / "problems.jsonl", synthetic_problems(NUM_PROBLEMS, seed=0, split="train", levels=LEVELS))
    (out / "calibrated.toml").write_text(RECIPE.format(folder=out))
    print(f"polaris ablate {out / 'calibrated.toml'} --tokens 400000 --seeds 5")


if __name__ == "__main__":
    main(*sys.argv[1:])
