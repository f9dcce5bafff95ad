"""The plan's memory beside the peak of real steps, for random models on this CPU; and the figures of the docs.

    python tests/bench/plan.py                  # six models, three ranks of LoRA, other ways: about 20 s each
    python tests/bench/plan.py --only 0 5       # some of them
    python tests/bench/plan.py --write-docs     # put the plan's figures into docs, README and the recipes' comments

Each step is taken by the worker of `polaris-train plan --probe`, in its own process: two steps of two micro-batches
of the longest context, measured as the highest resident memory above what the process holds when a step of the tiny
model has loaded all code. Ends with exit code 1 where plan and peak differ by more than 15%.
"""

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

TOLERANCE = 0.15

# type, layers, hidden, intermediate, heads, key heads, vocabulary, tied; context; rank of LoRA; what else a recipe says
CASES = (
    ("qwen3", 4, 256, 768, 4, 2, 8192, True, 2048, None, {}),
    ("qwen3", 8, 512, 1536, 8, 4, 16384, True, 1024, None, {}),
    ("qwen2", 6, 384, 2048, 6, 2, 32000, False, 1536, None, {}),
    ("llama", 4, 768, 2048, 12, 4, 32000, True, 1024, None, {}),
    ("qwen3", 2, 1024, 3072, 8, 4, 32000, False, 512, None, {}),
    ("qwen3", 8, 512, 1536, 8, 4, 16384, True, 1024, 8, {}),
    ("qwen2", 6, 384, 2048, 6, 2, 32000, False, 1536, 16, {}),
    ("qwen3", 8, 512, 1536, 8, 4, 16384, True, 1024, 64, {}),
    ("qwen3", 8, 512, 1536, 8, 4, 16384, True, 1024, None, {"activations": "recompute"}),
    ("qwen3", 8, 512, 1536, 8, 4, 16384, True, 1024, None, {"num_processes": 2}),
    ("qwen3", 8, 512, 1536, 8, 4, 16384, True, 1024, None, {"num_processes": 2, "reduce_each_microbatch": True}),
    ("qwen3_5_text", 4, 512, 1536, 4, 2, 16384, True, 1024, None, {}),
)
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 64, "linear_value_head_dim": 64,
}  # fmt: skip
ROOT = Path(__file__).parents[2]
DOCS, README = ROOT / "docs" / "what-fits.md", ROOT / "packages" / "polaris-train" / "README.md"


def random_model(folder: Path, case: tuple) -> None:
    """Write a model with random weights and the tiny model's tokenizer."""
    import torch
    from polaris_train.embedded import tiny_model
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    kind, layers, hidden, intermediate, heads, key_heads, vocabulary, tied, context, _, _ = case
    config = CONFIG_MAPPING[kind](
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=hidden // heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=context,
        **(LINEAR if kind == "qwen3_5_text" else {}),
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    for path in Path(tiny_model()).glob("token*"):
        shutil.copy(path, folder)


def measure(case: tuple) -> dict:
    """Return what a probe of a random model found."""
    from polaris_train.recipe import Recipe
    from polaris_train.stage import probe_recipe

    with tempfile.TemporaryDirectory() as folder:
        random_model(Path(folder), case)
        context, rank, settings = case[-3:]
        values = {
            "name": "probe",
            "model": folder,
            "problems": "synthetic",
            "max_prompt_tokens": 32,
            "stages": [{"name": "stage-1", "context": context, "temperature": 1.0, "steps": 1}],
            **({"lora": {"rank": rank}} if rank else {}),
            **settings,
        }
        return probe_recipe(Recipe.model_validate(values))


def compare(cases: list[tuple]) -> bool:
    """Print a table of plan and peak; return whether they agree everywhere."""
    agree = True
    print("| model | context | LoRA | with | planned GiB | measured GiB | off by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for case in cases:
        kind, layers, hidden, *_, context, rank, settings = case
        found = measure(case)
        off = found["planned_gib"] / found["peak_gib"] - 1
        agree = agree and abs(off) <= TOLERANCE
        name = f"{kind}, {layers} layers of {hidden}"
        figures = f"{found['planned_gib']:.3f} | {found['peak_gib']:.3f} | {off:+.1%}"
        ways = ", ".join(f"{key} = {value}" for key, value in settings.items())
        print(f"| {name} | {context} | {rank or 'none'} | {ways} | {figures} |", flush=True)
    return agree


def write_docs() -> None:
    """Put the plan's figures where the docs show them."""
    from polaris_train.planning import PLANNED, comment, fits_table, packaged_plan, recipes_table
    from polaris_train.recipe import packaged_recipes

    for path, table in ((DOCS, fits_table()), (README, recipes_table())):
        text = path.read_text(encoding="utf-8")
        parts = re.split(r"(<!-- plan -->\n).*?(\n<!-- /plan -->)", text, flags=re.DOTALL)
        path.write_text(parts[0] + parts[1] + table + parts[2] + parts[3], encoding="utf-8")
    for name in PLANNED:
        path = packaged_recipes()[name]
        text = path.read_text(encoding="utf-8")
        block = re.compile(r"^#PLAN\n|^# Plan for .*\n(?:#(?: +stage|   ).*\n)*", re.MULTILINE)
        path.write_text(
            block.sub(comment(packaged_plan(name)).replace("\\", r"\\") + "\n", text, count=1), encoding="utf-8"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of cases, from 0")
    parser.add_argument("--write-docs", action="store_true")
    options = parser.parse_args()
    if options.write_docs:
        write_docs()
        return 0
    chosen = range(len(CASES)) if options.only is None else options.only
    return 0 if compare([CASES[number] for number in chosen]) else 1


if __name__ == "__main__":
    sys.exit(main())
