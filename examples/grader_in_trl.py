"""Train with TRL's GRPOTrainer and the grader of polaris-reward as its reward: ``pip install polaris-reward trl``.

    python examples/grader_in_trl.py [MODEL [STEPS]]

Without arguments it takes one step with the demonstration model of polaris-train, on a CPU, in seconds.
"""

import sys
from tempfile import TemporaryDirectory

import torch
from datasets import Dataset
from polaris_reward.trl import accuracy_reward
from polaris_rollout import resolve_model
from trl import GRPOConfig, GRPOTrainer

PROBLEMS = [("What is 17 + 25?", "42"), (r"What is \sqrt{8}?", r"2\sqrt{2}"), ("Which x solve x^2 = 9?", r"\{-3, 3\}")]


def main(model: str = "tiny", num_steps: str = "1") -> None:
    """Train on the problems above; the column ``solution`` holds what the grader compares with."""
    ask = "{} Put the final answer in \\boxed{{}}."
    rows = [
        {"prompt": [{"role": "user", "content": ask.format(question)}], "solution": answer}
        for question, answer in PROBLEMS
    ]
    with TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=resolve_model(model),
            reward_funcs=[accuracy_reward],
            train_dataset=Dataset.from_list(rows),
            args=GRPOConfig(
                output_dir=folder,
                max_steps=int(num_steps),
                num_generations=4,
                per_device_train_batch_size=12,
                max_completion_length=64,
                logging_steps=1,
                report_to=[],
                save_strategy="no",
                use_cpu=not torch.cuda.is_available(),
                bf16=torch.cuda.is_available(),
                disable_tqdm=True,
            ),
        )
        trainer.train()
        rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    print(f"mean reward of each step: {', '.join(f'{reward:.2f}' for reward in rewards)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
