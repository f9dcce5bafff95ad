"""Peak memory of a training step by its number of micro-batches, with gradients shared out after the last or each one.

    python tests/bench/gradients.py                        # 1, 8 and 64 micro-batches on 2 ranks, about a minute
    python tests/bench/gradients.py --hidden 1024          # of a larger model

A random model that is large beside its tokens, so that gradients are most of what a step needs. Each figure is taken
in processes of their own: the highest resident memory of a step on any rank, above what the process holds after one of
a single micro-batch, with freed memory given back at once. Ends with exit code 1 where the peak with gradients that are
shared out each time differs by more than 10% between numbers of micro-batches above one, or the step is another than
with those shared out last.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TOLERANCE, ROUNDING = 0.1, 1e-5
SEQUENCE = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=384, help="of a model of 8 layers")
    parser.add_argument("--microbatches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rank-of", nargs=3, metavar=("MODEL", "NUMBER", "EACH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        model, number, each = options.rank_of
        measure(model, int(number), reduce_each=each == "each")
        return 0
    if len({number for number in options.microbatches if number > 1}) < 2:
        parser.error("give two numbers of micro-batches above 1, whose peaks are compared, such as --microbatches 2 8")
    with tempfile.TemporaryDirectory() as folder:
        size = write_model(Path(folder), options.hidden)
        print(
            f"{size / 1e6:.1f} million parameters, {options.ranks} ranks; a whole gradient has {size / 2**18:.0f} MiB"
        )
        print("| micro-batches | shared out | peak MiB | loss | gradient norm |\n| --- | --- | --- | --- | --- |")
        found = {}
        for number in options.microbatches:
            for each in ("last", "each"):
                now = found[number, each] = run(folder, number, each, options.ranks)
                print(f"| {number} | {each} | {now['mib']:.0f} | {now['loss']:.7f} | {now['norm']:.7f} |", flush=True)
    return 0 if agree(found, options.microbatches) else 1


def agree(found: dict, numbers: list[int]) -> bool:
    """Return whether the peak is constant from the second micro-batch on, and the step the same."""
    several = [found[number, "each"]["mib"] for number in numbers if number > 1]
    same = all(
        abs(found[number, "each"][name] - found[number, "last"][name]) <= ROUNDING * abs(found[number, "last"][name])
        for number in numbers
        for name in ("loss", "norm")
    )
    return same and max(several) <= (1 + TOLERANCE) * min(several)


def write_model(folder: Path, hidden: int) -> int:
    """Write a random model; return its number of parameters."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        num_hidden_layers=8,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=hidden // 8,
        vocab_size=1024,
        tie_word_embeddings=True,
        max_position_embeddings=64,
    )
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    return sum(each.numel() for each in model.parameters())


def run(model: str, number: int, each: str, num_ranks: int) -> dict:
    """Return what the ranks measured."""
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)]
    command = [sys.executable, *ranks, __file__, "--rank-of", model, str(number), each]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(2**17)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def measure(model: str, number: int, *, reduce_each: bool) -> None:
    """Take two steps on this rank; rank 0 prints the highest peak of all, and the step."""
    from random import Random

    import torch
    import torch.distributed as dist
    from polaris_train.model import (
        StepSettings,
        TokenLosses,
        TrainingSequence,
        accumulate,
        load_policy,
        optimizer_step,
        policy_optimizer,
    )
    from polaris_train.stage.monitor import peak_bytes, reset_peak, resident_bytes

    dist.init_process_group("gloo")
    random, settings = Random(0), StepSettings(max_tokens=SEQUENCE, reduce_each=reduce_each)
    count = number * dist.get_world_size()
    sequences = [
        TrainingSequence(
            prompt_token_ids=(1,),
            token_ids=tuple(random.choices(range(1024), k=SEQUENCE - 1)),
            weight=1 / (count * (SEQUENCE - 1)),
        )
        for _ in range(count)
    ]
    policy = load_policy(model, device=torch.device("cpu"), context=SEQUENCE)
    optimizer = policy_optimizer(policy, learning_rate=1e-6)
    for each in (sequences[: dist.get_world_size()], sequences):
        reset_peak()
        before = resident_bytes()
        totals = accumulate(policy, each, lambda found, *_: TokenLosses(losses=-found), settings)
        peak = torch.tensor(float(peak_bytes() - before))
        step = optimizer_step(policy, optimizer, totals, settings)
    dist.all_reduce(peak, op=dist.ReduceOp.MAX)
    if dist.get_rank() == 0:
        print(json.dumps({"mib": peak.item() / 2**20, "loss": step.sums["loss"], "norm": step.grad_norm}))
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
