"""Compare `polaris-eval run` with lm-eval: one model, 64 problems, greedy answers, each command as a user types it.

    uv run --extra cpu --with lm-eval==0.4.13 python tests/bench/eval_peer.py

lm-eval runs with vLLM and with transformers; the faster one counts. It gets the same prompts, the same token budget,
the same precision, and vLLM the settings with which it starts fastest. All must write the same texts, and ours must
score lm-eval's samples as lm-eval does. ``--alone`` runs ours without lm-eval. The whole of each command is measured,
start included; they take turns, and medians are compared: of the clock, and of the processor's time, which other
programs on the machine disturb less.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import distributions, version
from importlib.util import find_spec
from pathlib import Path

from polaris_data import PROMPT_SUFFIX, synthetic_problems, write_problems
from polaris_eval.running import read_completions
from polaris_train.embedded import tiny_model

TASK = "held_out"

# JSON is YAML too. What is in the last box is the answer, and the synthetic ones are whole numbers.
TASK_CONFIG = {
    "task": TASK,
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}" + PROMPT_SUFFIX,
    "doc_to_target": "{{references[0]}}",
    "filter_list": [
        {
            "name": "box",
            "filter": [
                {"function": "regex", "regex_pattern": r"\\boxed\{(-?\d+)\}", "group_select": -1},
                {"function": "take_first"},
            ],
        }
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}

# As `polaris_rollout.engines.vllm` sets them; without the first, vLLM starts a second process, which takes longer.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one command wrote, and what it took."""

    texts: list[str]
    score: float
    wall_s: float
    cpu_s: float


def main() -> None:
    """Run the commands in turn and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3, help="of each command")
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--alone", action="store_true", help="ours without lm-eval, to see that it runs")
    options = parser.parse_args()
    if not options.alone and find_spec("lm_eval") is None:
        raise SystemExit("lm-eval is not installed: start this script as its first lines say, or with --alone")
    peers = {} if options.alone else {"lm-eval, vLLM": "vllm", "lm-eval, transformers": "hf"}
    runs: dict[str, list[Run]] = {"polaris": [], **{side: [] for side in peers}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, options.max_tokens, num_problems=options.problems)
        for number in range(options.runs):
            out = folder / f"out-{number}"
            runs["polaris"].append(run_ours(folder / "problems.jsonl", out / "ours", options.max_tokens))
            for side, backend in peers.items():
                runs[side].append(run_peer(backend, folder, out / backend, num_problems=options.problems))
            check_same({side: several[-1] for side, several in runs.items()})
    report(runs)


def write_inputs(folder: Path, max_tokens: int, *, num_problems: int) -> None:
    """Write the problems, and the task that has lm-eval ask them."""
    write_problems(folder / "problems.jsonl", synthetic_problems(num_problems, seed=7, split="held-out"))
    more = {
        "dataset_kwargs": {"data_files": {"test": str(folder / "problems.jsonl")}},
        "generation_kwargs": {"until": ["<|im_end|>"], "max_gen_toks": max_tokens, "do_sample": False},
    }
    (folder / f"{TASK}.yaml").write_text(json.dumps(TASK_CONFIG | more))
    # lm-eval asks for the version of "vllm", which is called vllm-cpu where it runs on CPU.
    if "vllm" not in {each.name for each in distributions()}:
        metadata = folder / "vllm.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version('vllm-cpu')}+cpu\n")


def run_ours(problems: Path, out: Path, max_tokens: int) -> Run:
    """Evaluate with our command."""
    options = f"--model {tiny_model()} --samples 1 --temperature 0 --max-tokens {max_tokens} --out {out}".split()
    wall_s, cpu_s = measured([sys.executable, "-m", "polaris_eval", "run", str(problems), *options])
    groups = read_completions(out / problems.stem / "completions.jsonl").groups
    return Run(texts=_texts(groups), score=_mean_at_k(out), wall_s=wall_s, cpu_s=cpu_s)


def run_peer(backend: str, folder: Path, out: Path, *, num_problems: int) -> Run:
    """Evaluate with lm-eval, and grade its samples with our command."""
    settings = f"pretrained={tiny_model()},dtype=float32"
    more = f"--batch_size {num_problems} --device cpu"
    if backend == "vllm":
        settings += f",enforce_eager=True,max_num_batched_tokens=8192,max_num_seqs={num_problems}"
        more = "--batch_size auto"
    options = f"--model {backend} --model_args {settings} {more} --tasks {TASK} --include_path {folder}".split()
    options += f"--apply_chat_template --log_samples --output_path {out}".split()
    wall_s, cpu_s = measured(
        [sys.executable, "-m", "lm_eval", *options], PYTHONPATH=str(folder), HF_DATASETS_CACHE=str(folder / "datasets")
    )
    (samples,) = out.rglob("samples_*.jsonl")
    (results,) = out.rglob("results_*.json")
    score = json.loads(results.read_text())["results"][TASK]["exact_match,box"]
    measured([sys.executable, "-m", "polaris_eval", "grade", str(samples), "--out", str(out / "graded")])
    assert _mean_at_k(out / "graded") == score, (samples, score)
    return Run(texts=_texts(read_completions(samples).groups), score=score, wall_s=wall_s, cpu_s=cpu_s)


def measured(command: list[str], **environment: str) -> tuple[float, float]:
    """Return the seconds of a command by the clock and by the processor; what it prints goes to stderr."""
    wall_s, cpu_s = time.perf_counter(), _children_cpu_s()
    subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | ENVIRONMENT | environment)
    taken = time.perf_counter() - wall_s, _children_cpu_s() - cpu_s
    print(*command[2:5], *(f"{seconds:.1f} s" for seconds in taken), file=sys.stderr)
    return taken


def check_same(runs: dict[str, Run]) -> None:
    """Refuse runs that wrote other texts or have other scores."""
    ours = runs["polaris"]
    for side, run in runs.items():
        pairs = zip(ours.texts, run.texts, strict=True)
        different = [(mine, other) for mine, other in pairs if mine != other]
        assert not different, f"{side} wrote {len(different)} other texts, such as {different[0]}"
        assert run.score == ours.score, (side, run.score, ours.score)


def report(runs: dict[str, list[Run]]) -> None:
    """Print medians and ratios."""
    first = runs["polaris"][0]
    peers = [side for side in runs if side != "polaris"]
    said = "the same from all" if peers else "no peer beside it"
    print(f"{len(first.texts)} answers, {said}; score {first.score}; load {os.getloadavg()[0]:.1f}")
    wall = {side: statistics.median(run.wall_s for run in several) for side, several in runs.items()}
    cpu = {side: statistics.median(run.cpu_s for run in several) for side, several in runs.items()}
    for side, several in runs.items():
        seconds = ", ".join(f"{run.wall_s:.1f}" for run in several)
        print(f"{side:22} {wall[side]:6.1f} s by the clock ({seconds}), {cpu[side]:6.1f} s by the processor")
    if not peers:
        return
    fastest = min(peers, key=lambda side: wall[side])
    ratios = f"{wall['polaris'] / wall[fastest]:.2f} by the clock, {cpu['polaris'] / cpu[fastest]:.2f} by the processor"
    print(f"polaris / {fastest}: {ratios}")


def _texts(groups: list[dict]) -> list[str]:
    return [completion["text"] for group in groups for completion in group["completions"]]


def _mean_at_k(out: Path) -> float:
    (evaluation,) = json.loads((out / "scores.json").read_text())["evaluations"]
    return next(score["value"] for score in evaluation["scores"] if score["metric"] == "mean@k")


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
