"""Compare supervised fine-tuning with TRL's SFTTrainer: the same weights, traces and settings, each way in processes.

    python tests/bench/sft.py memory     vocabulary of 151,936, 8 traces of about 1,024 tokens: peak memory and time
    python tests/bench/sft.py skewed     1 trace of about 1,024 tokens and 15 of 64: time of a step

The traces are conversations, encoded once with the embedded model's chat template. TRL is measured with gradient
checkpointing, its default, which needs less memory, and without, which is faster; each of its figures is the better
one. Loss, gradient norm and entropy must agree. The ways take turns; medians are compared. CPU seconds are those of the
process, which other programs on the machine hardly disturb.
"""

import argparse
import json
import random
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from polaris_rollout.models import stop_token_ids
from polaris_train.embedded import tiny_model
from polaris_train.sft import Conversations, write_sequences
from train import CHECKPOINTED, KEPT, MEMORY, SKEWED, Ways, compare_ways, run_way, write_model
from transformers import AutoTokenizer

PROGRAM = Path(__file__).with_name("sft_ways.py")
STEP_WAYS: Ways = {
    "polaris": ("ours", {}),
    CHECKPOINTED: ("trl", {"gradient_checkpointing": True}),
    KEPT: ("trl", {"gradient_checkpointing": False}),
}


def main() -> None:
    """Print the figures of one part as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("memory", "skewed"))
    parser.add_argument("--runs", type=int, default=3, help="processes of each way")
    parser.add_argument("--steps", type=int, default=3, help="steps of each process; the first is not timed")
    parser.add_argument("--longest", type=int, default=1024, help="tokens of the longest trace")
    arguments = parser.parse_args()
    longest, runs, steps = arguments.longest, arguments.runs, arguments.steps
    if arguments.part == "memory":
        report = compare_steps(MEMORY, [longest] * 8, runs=runs, num_steps=steps, learning_rate=0.0)
    else:
        lengths = [longest] + [longest // 16] * 15
        report = compare_steps(SKEWED, lengths, runs=runs, num_steps=steps, learning_rate=1e-6)
    print(json.dumps(report, indent=2))


def compare_steps(
    shape: dict[str, int], lengths: list[int], *, runs: int, num_steps: int, learning_rate: float
) -> dict[str, Any]:
    """Return medians and ratios of optimizer steps on traces of about these lengths."""
    with tempfile.TemporaryDirectory() as name:
        write_model(shape, name)
        for path in Path(tiny_model()).iterdir():
            if path.name not in ("config.json", "model.safetensors"):
                shutil.copy(path, name)
        traces = Path(name) / "traces.arrow"
        num_learned = write_traces(traces, name, lengths)
        options = {"model": name, "traces": str(traces), "num_steps": num_steps, "learning_rate": learning_rate}
        report = compare_ways(STEP_WAYS, runs=runs, run=partial(run_way, program=PROGRAM, **options))
    return {"learned_tokens": num_learned} | report


def write_traces(path: Path, model: str, lengths: list[int]) -> int:
    """Write made-up conversations, and return how many tokens of them are learned."""
    draw = random.Random(0)
    tokenizer = AutoTokenizer.from_pretrained(model, model_max_length=10**9)

    def answer(length: int) -> str:
        ids = tokenizer.encode(" ".join(str(draw.randrange(100)) for _ in range(length)), add_special_tokens=False)
        return tokenizer.decode(ids[:length])

    asked = [(f"What is {draw.randrange(100)} + {draw.randrange(100)}?", answer(length)) for length in lengths]
    rows = [
        (str(number), {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": said}]})
        for number, (ask, said) in enumerate(asked)
    ]
    conversations = Conversations(tokenizer, stop_token_ids=stop_token_ids(model))
    made = write_sequences(rows, conversations, path, context=2 * max(lengths) + 64)
    assert made.num_traces == len(lengths), made.set_aside
    return made.num_learned


if __name__ == "__main__":
    main()
