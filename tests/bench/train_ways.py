"""One measurement of tests/bench/train.py in a process of its own: ``python tests/bench/train_ways.py WAY JSON``.

Prints a JSON object as its last line. Ways: ``ours`` and ``trl`` take optimizer steps on given answers;
``ours-whole`` and ``trl-whole`` sample, grade and train.
"""

import ctypes
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

TEMPERATURE = 1.0
PROMPT_TOKENS = 16
CLIP_LOW, CLIP_HIGH = 0.2, 0.28
RECIPE = "tiny-cpu"
OVERRIDES = ["stages.0.temperature=1.0", "stages.0.context=512", "evaluate_every=0"]


def main() -> None:
    """Measure one way."""
    way, options = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps(WAYS[way](**options)))


def answers(lengths: Sequence[int], vocab_size: int) -> tuple[list[list[int]], list[list[int]], list[float]]:
    """Return prompts and answers of random tokens, and advantages; the same for all ways."""
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(0, vocab_size, (len(lengths), PROMPT_TOKENS), generator=generator).tolist()
    completions = [torch.randint(0, vocab_size, (length,), generator=generator).tolist() for length in lengths]
    return prompts, completions, torch.randn(len(lengths), generator=generator).tolist()


def ours(*, model: str, lengths: list[int], num_steps: int, learning_rate: float) -> dict[str, Any]:
    """Take steps with `polaris_train.grpo`, all answers in one micro-batch."""
    from polaris_train.grpo import LossSettings, TrainingBatch, token_weights, update
    from polaris_train.model import StepSettings, TrainingSequence, load_policy

    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    context = PROMPT_TOKENS + max(lengths)
    policy = load_policy(model, device=torch.device("cpu"), context=context, precision="float32")
    weights = token_weights(lengths, [1] * len(lengths), aggregation="token-mean", max_tokens=max(lengths))
    rows = zip(*answers(lengths, policy.model.config.vocab_size), weights, strict=True)
    sequences = [
        TrainingSequence(
            prompt_token_ids=tuple(prompt),
            token_ids=tuple(answer),
            engine_logprobs=(0.0,) * len(answer),
            advantages=advantage,
            weight=weight,
        )
        for prompt, answer, advantage, weight in rows
    ]
    loss = LossSettings(mismatch_correction="none", dual_clip=None)
    settings = StepSettings(max_tokens=sum(lengths) + PROMPT_TOKENS * len(lengths), temperature=TEMPERATURE)
    batch = TrainingBatch(sequences=sequences)
    optimizer = make_optimizer(policy.parameters(), learning_rate)

    def step() -> tuple[float, float, float]:
        stats = update(policy, optimizer, [batch], loss, settings).stats
        assert stats.loss is not None
        assert stats.grad_norm is not None
        return stats.loss, stats.grad_norm, stats.entropy

    measured = measure_steps(step, num_steps)
    dist.destroy_process_group()
    return measured


def trl(
    *, model: str, lengths: list[int], num_steps: int, learning_rate: float, gradient_checkpointing: bool
) -> dict[str, Any]:
    """Take steps with the loss of TRL's GRPOTrainer, all answers in one batch."""
    from transformers import AutoModelForCausalLM

    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    trainer = _trl_trainer(
        policy,
        [[{"role": "user", "content": "?"}]] * len(lengths),
        [""] * len(lengths),
        per_device_train_batch_size=len(lengths),
        num_generations=len(lengths),
        max_completion_length=max(lengths),
        gradient_checkpointing=gradient_checkpointing,
    )
    prompts, completions, advantages = answers(lengths, policy.config.vocab_size)
    width = max(lengths)
    inputs = {
        "prompt_ids": torch.tensor(prompts),
        "prompt_mask": torch.ones(len(prompts), PROMPT_TOKENS, dtype=torch.long),
        "completion_ids": torch.tensor([row + [0] * (width - len(row)) for row in completions]),
        "completion_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in completions]),
        "advantages": torch.tensor(advantages),
        "num_items_in_batch": torch.tensor(sum(lengths)),
    }
    return measure_trl(trainer, policy, inputs, num_steps, learning_rate)


def ours_whole(*, num_steps: int, folder: str) -> dict[str, Any]:
    """Run a stage of the packaged recipe with the real engine; TRL then answers the same problems."""
    from polaris_data import read_problems, to_prompt
    from polaris_rollout.store import read_groups

    overrides = [*OVERRIDES, f"stages.0.steps={num_steps}", "learning_rate=1e-6", "num_processes=1"]
    subprocess.run(
        [str(Path(sys.executable).with_name("polaris-train")), "stage", RECIPE, "stage-1", "--out", folder]
        + [part for each in overrides for part in ("--set", each)],
        check=True,
        stdout=sys.stderr,
    )
    stage = Path(folder) / "stage-1"
    problems = {each.problem_id: each for each in read_problems(stage / "problems.jsonl")}
    drawn = [
        problems[group.problem_id]
        for path in sorted((stage / "rollouts").glob("*.parquet"))
        for group in read_groups(path)
    ]
    (Path(folder) / "drawn.json").write_text(
        json.dumps([{"prompt": to_prompt(each), "solution": each.references[0]} for each in drawn])
    )
    performance = [json.loads(line) for line in (stage / "performance.jsonl").read_text().splitlines()]
    metrics = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    return {
        "seconds": [sum(each["seconds"][name] for name in ("sample", "update")) for each in performance],
        "mean_tokens": [each["mean_tokens"] for each in metrics],
        "reward": [each["reward"] for each in metrics],
    }


def trl_whole(*, num_steps: int, folder: str, continuous_batching: bool) -> dict[str, Any]:
    """Run GRPOTrainer on the problems that `ours_whole` drew, in the same order."""
    from polaris_train.embedded import tiny_model
    from polaris_train.recipe import load_recipe
    from transformers import AutoModelForCausalLM, TrainerCallback

    recipe = load_recipe(RECIPE, OVERRIDES)
    rows = json.loads((Path(folder) / "drawn.json").read_text())
    started = time.perf_counter()
    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            nonlocal started
            started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - started)

    trainer = _trl_trainer(
        AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32),
        [[{"role": "user", "content": row["prompt"]}] for row in rows],
        [row["solution"] for row in rows],
        max_steps=num_steps,
        learning_rate=1e-6,
        per_device_train_batch_size=recipe.prompts_per_step * recipe.samples_per_prompt,
        num_generations=recipe.samples_per_prompt,
        max_completion_length=recipe.stages[0].context - recipe.max_prompt_tokens,
        gradient_checkpointing=False,
        use_transformers_continuous_batching=continuous_batching,
    )
    trainer.add_callback(Clock())
    trainer.train()
    logged = [each for each in trainer.state.log_history if "reward" in each]
    return {
        "seconds": seconds,
        "mean_tokens": [each["completions/mean_length"] for each in logged],
        "reward": [each["reward"] for each in logged],
    }


def _trl_trainer(model: Any, prompts: list[Any], solutions: list[str], **options: Any) -> Any:
    from datasets import Dataset
    from polaris_reward.trl import accuracy_reward
    from polaris_train.embedded import tiny_model
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    return GRPOTrainer(
        model=model,
        processing_class=AutoTokenizer.from_pretrained(tiny_model()),
        reward_funcs=[accuracy_reward],
        train_dataset=Dataset.from_dict({"prompt": prompts, "solution": solutions}),
        args=GRPOConfig(
            output_dir=tempfile.mkdtemp(),
            loss_type="dapo",
            beta=0.0,
            temperature=TEMPERATURE,
            epsilon=CLIP_LOW,
            epsilon_high=CLIP_HIGH,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            shuffle_dataset=False,
            **options,
        ),
    )


def make_optimizer(parameters: Any, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW, or with a rate of 0 one that has no state and changes nothing."""
    if learning_rate:
        return torch.optim.AdamW(parameters, lr=learning_rate)
    return torch.optim.SGD(parameters, lr=0.0)


def measure_trl(
    trainer: Any, policy: Any, inputs: dict[str, Any], num_steps: int, learning_rate: float, **of_loss: Any
) -> dict[str, Any]:
    """Take steps with the loss of one of TRL's trainers, everything in one batch.

    Args:
        trainer: Knows the loss.
        policy: The trainer's model.
        inputs: The batch.
        num_steps: Are taken.
        learning_rate: Of the optimizer.
        of_loss: What the loss is told besides.
    """
    # As Trainer.train sets them before its first step.
    trainer.current_gradient_accumulation_steps = 1
    policy.train()
    if trainer.args.gradient_checkpointing:
        policy.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    optimizer = make_optimizer(policy.parameters(), learning_rate)

    def step() -> tuple[float, float, float]:
        loss = trainer.compute_loss(policy, dict(inputs), **of_loss)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item(), norm.item(), trainer._metrics["train"]["entropy"][-1]

    return measure_steps(step, num_steps)


def measure_steps(step: Callable[[], tuple[float, float, float]], num_steps: int) -> dict[str, Any]:
    """Take steps; the first one's peak of resident memory is measured, above what was there before it."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    base = _memory("VmRSS")
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    first: tuple[float, float, float] | None = None
    peak = 0
    for _ in range(num_steps):
        started, cpu_started = time.perf_counter(), time.process_time()
        result = step()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
        if first is None:
            first, peak = result, _memory("VmHWM") - base
    assert first is not None
    figures = dict(zip(("loss", "grad_norm", "entropy"), first, strict=True))
    return figures | {"peak_mib": peak / 2**20, "seconds": seconds, "cpu_seconds": cpu_seconds}


def _memory(name: str) -> int:
    """Bytes, from the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


WAYS: dict[str, Callable[..., dict[str, Any]]] = {
    "ours": ours,
    "trl": trl,
    "ours-whole": ours_whole,
    "trl-whole": trl_whole,
}

if __name__ == "__main__":
    main()
