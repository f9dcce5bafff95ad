"""Compare training with TRL's GRPOTrainer: the same weights, answers and settings, each way in processes of its own.

    python tests/bench/train.py memory     vocabulary of 151,936, 8 answers of 1,024 tokens: peak memory and time
    python tests/bench/train.py skewed     1 answer of 1,024 tokens and 15 of 64: time of a step
    python tests/bench/train.py whole      sample, grade, train with the embedded model: time of a step
    python tests/bench/train.py plot       peak memory over tokens times vocabulary, as FOLDER/memory.png

TRL is measured with gradient checkpointing, its default, which needs less memory, and without, which is faster; each of
its figures is the better one. ``whole`` tries both of its ways to sample. Loss, gradient norm and entropy must agree.
The ways take turns; medians are compared. CPU seconds are those of the process, which other programs on the machine
hardly disturb.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

mpl.use("Agg")
from matplotlib import pyplot

WAYS = Path(__file__).with_name("train_ways.py")
VOCAB = 151_936
MEMORY = {"hidden_size": 64, "num_hidden_layers": 2, "head_dim": 16, "vocab_size": VOCAB}
SKEWED = {"hidden_size": 256, "num_hidden_layers": 4, "head_dim": 64, "vocab_size": 4096}

CHECKPOINTED, KEPT = "TRL", "TRL without gradient checkpointing"
Ways = Mapping[str, tuple[str, dict[str, Any]]]
"""What is run and with which options, by the name that it is shown under."""

STEP_WAYS: Ways = {
    "polaris": ("ours", {}),
    CHECKPOINTED: ("trl", {"gradient_checkpointing": True}),
    KEPT: ("trl", {"gradient_checkpointing": False}),
}
WHOLE_WAYS: Ways = {
    "polaris": ("ours-whole", {}),
    "TRL, generate": ("trl-whole", {"continuous_batching": False}),
    "TRL, continuous batching": ("trl-whole", {"continuous_batching": True}),
}


def main() -> None:
    """Print the figures of one part as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("memory", "skewed", "whole", "plot"))
    parser.add_argument("--runs", type=int, default=3, help="processes of each way")
    parser.add_argument("--steps", type=int, default=3, help="steps of each process; the first is not timed")
    parser.add_argument("--longest", type=int, default=1024, help="answer of the parts memory and skewed, in tokens")
    parser.add_argument("--out", type=Path, default=Path("bench-train"), help="folder of the picture")
    arguments = parser.parse_args()
    if arguments.part == "memory":
        lengths = [arguments.longest] * 8
        report = compare_steps(MEMORY, lengths, runs=arguments.runs, num_steps=arguments.steps, learning_rate=0.0)
    elif arguments.part == "skewed":
        lengths = [arguments.longest] + [arguments.longest // 16] * 15
        report = compare_steps(SKEWED, lengths, runs=arguments.runs, num_steps=arguments.steps, learning_rate=1e-6)
    elif arguments.part == "whole":
        report = compare_whole(runs=arguments.runs, num_steps=arguments.steps)
    else:
        report = plot_memory(arguments.out)
    print(json.dumps(report, indent=2))


def compare_steps(
    shape: dict[str, int], lengths: list[int], *, runs: int, num_steps: int, learning_rate: float
) -> dict[str, Any]:
    """Return medians and ratios of optimizer steps on given answers."""
    options = {"lengths": lengths, "num_steps": num_steps, "learning_rate": learning_rate}
    with tempfile.TemporaryDirectory() as folder:
        write_model(shape, folder)
        return compare_ways(STEP_WAYS, runs=runs, run=partial(run_way, model=folder, **options))


def compare_ways(ways: Ways, *, runs: int, run: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Let ways to take a step take turns; return medians and ratios, after making sure that they computed the same."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, (way, more) in ways.items():
            results[name].append(run(way, **more))
    first = results["polaris"][0]
    for each in (one for several in results.values() for one in several):
        for figure in ("loss", "grad_norm", "entropy"):
            assert math.isclose(each[figure], first[figure], rel_tol=1e-4, abs_tol=1e-6), (figure, each, first)
    medians = {
        name: {
            "peak_mib": statistics.median(each["peak_mib"] for each in several),
            "seconds": statistics.median(one for each in several for one in each["seconds"][1:]),
            "cpu_seconds": statistics.median(one for each in several for one in each["cpu_seconds"][1:]),
        }
        for name, several in results.items()
    }
    best = {figure: min(medians[name][figure] for name in (CHECKPOINTED, KEPT)) for figure in medians["polaris"]}
    return {
        "same": {figure: first[figure] for figure in ("loss", "grad_norm", "entropy")},
        "medians": medians,
        "times_polaris": {figure: value / medians["polaris"][figure] for figure, value in best.items()},
    }


def compare_whole(*, runs: int, num_steps: int) -> dict[str, Any]:
    """Return the median time of a whole step of each way, the first of each process (engine start) left out."""
    seconds: dict[str, list[float]] = {name: [] for name in WHOLE_WAYS}
    starts: dict[str, list[float]] = {name: [] for name in WHOLE_WAYS}
    tokens: dict[str, list[float]] = {name: [] for name in WHOLE_WAYS}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            for name, (way, more) in WHOLE_WAYS.items():
                result = run_way(way, num_steps=num_steps, folder=folder, **more)
                starts[name].append(result["seconds"][0])
                seconds[name] += result["seconds"][1:]
                tokens[name] += result["mean_tokens"]
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return {
        "seconds": medians,
        "seconds_of_first_step": {name: statistics.median(each) for name, each in starts.items()},
        "mean_tokens": {name: statistics.fmean(each) for name, each in tokens.items()},
        "times_polaris": {name: each / medians["polaris"] for name, each in medians.items()},
    }


def plot_memory(folder: Path) -> dict[str, Any]:
    """Measure peak memory for several numbers of tokens and vocabularies, and draw it."""
    sizes = [(tokens, vocab) for vocab in (VOCAB // 4, VOCAB) for tokens in (1024, 4096, 8192)]
    peaks: dict[str, list[float]] = {"polaris": [], CHECKPOINTED: []}
    for tokens, vocab in sizes:
        with tempfile.TemporaryDirectory() as model:
            write_model(MEMORY | {"vocab_size": vocab}, model)
            options = {"model": model, "lengths": [512] * (tokens // 512), "num_steps": 1, "learning_rate": 0.0}
            for name in peaks:
                way, more = STEP_WAYS[name]
                peaks[name].append(run_way(way, **options, **more)["peak_mib"])
    figure, axes = pyplot.subplots(layout="constrained")
    for name, each in peaks.items():
        axes.plot([tokens * vocab for tokens, vocab in sizes], each, "o", label=name)
    logits = [tokens * vocab * 4 / 2**20 for tokens, vocab in sizes]
    axes.plot([tokens * vocab for tokens, vocab in sizes], logits, "--", color="grey", label="logits in float32")
    axes.set(xscale="log", yscale="log", xlabel="tokens times vocabulary", ylabel="peak memory of a step, MiB")
    axes.legend()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "memory.png", dpi=150)
    return {"sizes": sizes, "logits_mib": logits, "peak_mib": peaks, "picture": str(folder / "memory.png")}


def write_model(shape: dict[str, int], folder: str) -> None:
    """Write a Qwen3 with random weights."""
    torch.manual_seed(0)
    config = Qwen3Config(
        **shape,
        intermediate_size=3 * shape["hidden_size"],
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)


def run_way(way: str, *, program: Path = WAYS, **options: Any) -> dict[str, Any]:
    """Measure in a new process; its messages go to stderr."""
    found = subprocess.run(
        [sys.executable, str(program), way, json.dumps(options)], check=True, stdout=subprocess.PIPE, text=True
    )
    result = json.loads(found.stdout.splitlines()[-1])
    print(way, options, result, file=sys.stderr)
    return result


if __name__ == "__main__":
    main()
