"""One measurement of tests/bench/sft.py in a process of its own: ``python tests/bench/sft_ways.py WAY JSON``.

Prints a JSON object as its last line. Ways: ``ours`` and ``trl``, each learns from all traces of a file in every step.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from polaris_train.model import TrainingSequence
from polaris_train.sft import Traces, with_equal_weights
from train_ways import make_optimizer, measure_steps, measure_trl


def main() -> None:
    """Measure one way."""
    way, options = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps(WAYS[way](**options)))


def read_sequences(path: str) -> Sequence[TrainingSequence]:
    """Return the sequences of all traces; all tokens after the prompt are learned, as in a single turn."""
    traces = Traces(Path(path), num_validated=0, seed=0)
    return traces.sequences(traces.learned)


def ours(*, model: str, traces: str, num_steps: int, learning_rate: float) -> dict[str, Any]:
    """Take steps with what `polaris_train.sft` trains with, all traces in one micro-batch."""
    from polaris_train.model import StepSettings, accumulate, load_policy, optimizer_step
    from polaris_train.sft.loop import negative_logprobs
    from polaris_train.sft.sequences import num_learned

    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    sequences = with_equal_weights(read_sequences(traces))
    lengths = [each.length for each in sequences]
    policy = load_policy(model, device=torch.device("cpu"), context=max(lengths), precision="float32")
    settings = StepSettings(max_tokens=sum(lengths))
    optimizer = make_optimizer(policy.parameters(), learning_rate)

    def step() -> tuple[float, float, float]:
        totals = accumulate(policy, sequences, negative_logprobs, settings)
        taken = optimizer_step(policy, optimizer, totals, settings)
        return taken.sums["loss"], taken.grad_norm, taken.sums["entropy"] / num_learned(sequences)

    measured = measure_steps(step, num_steps)
    dist.destroy_process_group()
    return measured


def trl(
    *, model: str, traces: str, num_steps: int, learning_rate: float, gradient_checkpointing: bool
) -> dict[str, Any]:
    """Take steps with the loss of TRL's SFTTrainer, all traces in one batch of its own collator.

    It is given our tokens: encoding the traces itself, it would also teach the newline after the end of a turn.
    """
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    sequences = read_sequences(traces)
    rows = [
        {
            "input_ids": [*each.prompt_token_ids, *each.token_ids],
            "completion_mask": [0] * len(each.prompt_token_ids) + [1] * len(each.token_ids),
        }
        for each in sequences
    ]
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    trainer = SFTTrainer(
        model=policy,
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=Dataset.from_list(rows),
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=len(rows),
            max_length=None,
            completion_only_loss=True,
            gradient_checkpointing=gradient_checkpointing,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        ),
    )
    (inputs,) = trainer.get_train_dataloader()
    num_learned = (inputs["labels"] != -100).sum()
    assert num_learned == sum(len(each.token_ids) for each in sequences), "TRL learns other tokens"
    return measure_trl(trainer, policy, inputs, num_steps, learning_rate, num_items_in_batch=num_learned)


WAYS: dict[str, Callable[..., dict[str, Any]]] = {"ours": ours, "trl": trl}

if __name__ == "__main__":
    main()
