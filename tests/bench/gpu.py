"""The trainer alone on one GPU: tokens per second, model-FLOP utilisation and peak memory of real shapes.

Random weights of the shapes of Qwen3-0.6B, 1.7B and 4B, the first and last with LoRA too; one step is one micro-batch
of one sequence of the given length with a short prompt, forward, backward and optimizer step. Beside each row stands
what prime-rl has published for its trainer on one H100 (activation recomputation, FlashAttention 3), where it has.

    python tests/bench/gpu.py                      all shapes and lengths
    python tests/bench/gpu.py --shape tiny         the same code in seconds, on a CPU too
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist
from polaris_train.grpo import LossSettings, TrainingBatch, update
from polaris_train.model import StepSettings, TrainingSequence, load_policy, policy_optimizer
from polaris_train.model.exhaustion import is_out_of_memory
from polaris_train.recipe.tables import Activations, Lora
from rich.console import Console
from rich.table import Table
from transformers import Qwen3Config, Qwen3ForCausalLM

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16, from the makers' data sheets."""

PROMPT_TOKENS = 128

SHAPES = {
    "Qwen3-0.6B": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "Qwen3-1.7B": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
    "Qwen3-4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
}
COMMON = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936, "tie_word_embeddings": True}
SMALL = {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": 4_096, "tie_word_embeddings": True}

LENGTHS = {"tiny": (512, 1_024)} | dict.fromkeys(("Qwen3-0.6B", "Qwen3-1.7B", "Qwen3-4B"), (16_384, 40_960, 65_536))
RANKS: dict[str, tuple[int | None, ...]] = dict.fromkeys(("Qwen3-0.6B", "Qwen3-4B", "tiny"), (None, 16))
"""Of adapters; where there are none, all weights are trained."""

PUBLISHED = {  # of prime-rl on one H100: tokens per second, MFU in %, GiB
    ("Qwen3-0.6B", None, 16_384): ("11,896", "11.1", "12.5"),
    ("Qwen3-0.6B", None, 65_536): ("10,147", "26.8", "19.6"),
    ("Qwen3-0.6B", 16, 16_384): ("13,340", "10.9", "5.1"),
    ("Qwen3-0.6B", 16, 65_536): ("9,970", "25.2", "11.5"),
    ("Qwen3-4B", 16, 16_384): ("6,229", "21.7", "23.3"),
    ("Qwen3-4B", 16, 65_536): ("4,164", "37.4", "42.0"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One row of the table."""

    tokens_per_second: float
    mfu: float | None
    """Share of the device's peak; ``None`` where that is not known."""
    peak_gib: float | None
    """Of the trainer on the device; ``None`` on a CPU."""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="Default: all but tiny.")
    parser.add_argument("--steps", type=int, default=5, help="Timed steps of each row, after one that is not.")
    arguments = parser.parse_args()
    shapes = arguments.shape or [shape for shape in SHAPES if shape != "tiny"]
    if shapes != ["tiny"] and not torch.cuda.is_available():
        sys.exit("skipped: no GPU; --shape tiny runs the same code on a CPU")
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    backend = "cuda:nccl,cpu:gloo" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    title = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    table = Table("shape", "tokens", "tokens/s", "MFU %", "GiB", "published tokens/s", "MFU %", "GiB", title=title)
    for shape, length in [(each, length) for each in shapes for length in LENGTHS[each]]:
        for rank in RANKS.get(shape, (None,)):
            found = measure(shape, length, device, steps=arguments.steps, rank=rank)
            name = shape if rank is None else f"{shape}, LoRA {rank}"
            table.add_row(name, f"{length:,}", *_cells(found), *PUBLISHED.get((shape, rank, length), ("-", "-", "-")))
    Console(width=120).print(table)
    dist.destroy_process_group()


def measure(
    shape: str,
    length: int,
    device: torch.device,
    *,
    steps: int,
    rank: int | None = None,
    cpu_offload: bool = False,
    activations: Activations = "recompute",
) -> Measured | None:
    """Return what training on one sequence takes, or ``None`` where it does not fit."""
    config = model_config(shape, length)
    lora = None if rank is None else Lora(rank=rank)
    with tempfile.TemporaryDirectory() as folder:
        Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
        policy = load_policy(
            folder, device=device, context=length, lora=lora, cpu_offload=cpu_offload, activations=activations
        )
    batch = TrainingBatch(sequences=[_sequence(length, config.vocab_size)])
    seconds: list[float] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        optimizer = policy_optimizer(policy, learning_rate=1e-6)
        for _ in range(steps + 1):
            started = time.monotonic()
            update(policy, optimizer, [batch], LossSettings(), StepSettings(max_tokens=length))
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.monotonic() - started)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    rate = length / statistics.median(seconds[1:])
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else ""
    peak_flops = next((value for known, value in PEAK_FLOPS.items() if known in name), None)
    return Measured(
        tokens_per_second=rate,
        mfu=rate * flops_per_token(config, length, trains_all=rank is None) / peak_flops if peak_flops else None,
        peak_gib=torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
    )


def model_config(shape: str, length: int) -> Qwen3Config:
    """Return the configuration of a shape."""
    return Qwen3Config(**SHAPES[shape], **(SMALL if shape == "tiny" else COMMON), max_position_embeddings=length)


def _cells(found: Measured | None) -> tuple[str, str, str]:
    if found is None:
        return "does not fit", "-", "-"
    mfu = "-" if found.mfu is None else f"{100 * found.mfu:.1f}"
    return f"{found.tokens_per_second:,.0f}", mfu, "-" if found.peak_gib is None else f"{found.peak_gib:.1f}"


def flops_per_token(config: Qwen3Config, length: int, *, trains_all: bool = True) -> float:
    """Return the floating-point operations that training one token needs, recomputation not counted.

    Six for each weight in a matrix product (the head's included), four where it is frozen and has no gradient, and for
    causal attention ``6 * layers * heads * head size * length``. What adapters themselves need is left out.
    """
    heads = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    layer = config.hidden_size * (2 * heads + 2 * keys + 3 * config.intermediate_size)
    weights = config.num_hidden_layers * layer + config.vocab_size * config.hidden_size
    return (6 if trains_all else 4) * weights + 6 * config.num_hidden_layers * heads * length


def _sequence(length: int, vocab_size: int) -> TrainingSequence:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocab_size, (length,), generator=generator).tolist()
    answer = length - PROMPT_TOKENS
    return TrainingSequence(
        prompt_token_ids=tuple(ids[:PROMPT_TOKENS]),
        token_ids=tuple(ids[PROMPT_TOKENS:]),
        engine_logprobs=(-12.0,) * answer,
        advantages=1.0,
        weight=1 / answer,
    )


if __name__ == "__main__":
    main()
