"""The embedded default: a Qwen3 of about a million parameters that has something to learn.

It is trained from scratch on the synthetic problems in four answer styles: a direct guess, partly worked,
fully worked, worked with a check. The worked styles are right far more often but are not its habit, so
reinforcement learning has something to elicit and accuracy and length rise together, as in a real base
model. Training stops well before mastery.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from statistics import fmean

import torch
from polaris_data import Problem, to_prompt
from polaris_data.problems import MAX_LEVEL, Chain, Style, generate_chains, write_solution
from polaris_rollout import encode_prompt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast, Qwen3Config

from polaris_train.model.attention import attention_implementation
from polaris_train.model.packing import MicroBatch, TrainingSequence
from polaris_train.model.policy import Policy
from polaris_train.model.step import StepSettings, TokenLosses, accumulate, optimizer_step

logger = logging.getLogger(__name__)

VOCAB_SIZE = 512
MAX_POSITIONS = 2048
NUM_STEPS = 1500
BATCH_SIZE = 32
PEAK_LEARNING_RATE = 2e-3


@dataclass(frozen=True, slots=True)
class _Phase:
    """A part of the training."""

    part: float
    """Of all steps."""

    levels: tuple[int, ...]
    """Of the problems, taking turns."""

    shares: dict[Style, float]
    """Of the answer styles."""


ALL_LEVELS = tuple(range(1, MAX_LEVEL + 1))

LEARNING: dict[Style, float] = {"direct": 0.1, "partial": 0.1, "worked": 0.6, "checked": 0.2}
HABIT: dict[Style, float] = {"direct": 0.65, "partial": 0.15, "worked": 0.12, "checked": 0.08}
PHASES = (_Phase(0.3, (1, 2), LEARNING), _Phase(0.4, ALL_LEVELS, LEARNING), _Phase(0.3, ALL_LEVELS, HABIT))
"""It learns to calculate from short worked answers, then from all, and then gets into the habit of guessing."""

SLIP_SHARE = 0.3
"""Share of checked answers whose first pass holds a slip that the check puts right."""

LOG_EVERY = 100

END_OF_TURN, END_OF_TEXT = "<|im_end|>", "<|endoftext|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tiny(out: Path, *, seed: int = 0, num_steps: int = NUM_STEPS) -> None:
    """Train the embedded model from scratch and write it as a Hugging Face folder.

    The result is a function of the seed, the number of steps and the software versions.

    Args:
        out: Folder to write; created when missing.
        seed: Of the weights, the problems and the answer styles.
        num_steps: Optimizer steps of ``BATCH_SIZE`` answers each.
    """
    rng = random.Random(seed)
    tokenizer = _train_tokenizer(rng)
    torch.manual_seed(seed)
    attention = attention_implementation(torch.device("cpu"), torch.float32)
    model = AutoModelForCausalLM.from_config(_config(tokenizer), attn_implementation=attention)
    _train(Policy(model.train()), tokenizer, rng, num_steps=num_steps)
    model.generation_config = GenerationConfig(
        do_sample=True,
        eos_token_id=[model.config.eos_token_id, model.config.pad_token_id],
        pad_token_id=model.config.pad_token_id,
    )
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)


def _config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=VOCAB_SIZE,
        initializer_range=0.06,  # at this width 0.02 leaves the layers all but silent for hundreds of steps
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        use_cache=True,
        eos_token_id=_token_id(tokenizer, END_OF_TURN),
        pad_token_id=_token_id(tokenizer, END_OF_TEXT),
        bos_token_id=None,
    )


def _train_tokenizer(rng: random.Random) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE in which every digit is a token and any text can be encoded."""
    chains = generate_chains(rng, split="train")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        ("".join(_example(*next(chains), HABIT, rng)) for _ in range(5000)),
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            special_tokens=[END_OF_TEXT, "<|im_start|>", END_OF_TURN],
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        model_max_length=MAX_POSITIONS,
        chat_template=CHAT_TEMPLATE,
    )


def _example(question: str, chain: Chain, shares: dict[Style, float], rng: random.Random) -> tuple[str, str]:
    """Return the user turn and an answer in a style drawn by its share."""
    (style,) = rng.choices(list(shares), weights=list(shares.values()))
    slip_at = rng.randrange(len(chain.operations)) if rng.random() < SLIP_SHARE else None
    prompt = to_prompt(Problem(problem_id="", question=question, references=(str(chain.answer),)))
    return prompt, write_solution(chain, style, slip_at=slip_at)


def _train(policy: Policy, tokenizer: PreTrainedTokenizerFast, rng: random.Random, *, num_steps: int) -> None:
    optimizer = torch.optim.AdamW(policy.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_LEARNING_RATE, total_steps=num_steps, pct_start=0.05, cycle_momentum=False
    )
    settings = StepSettings(max_tokens=BATCH_SIZE * MAX_POSITIONS)
    started = time.monotonic()
    recent: deque[float] = deque(maxlen=LOG_EVERY)
    batches = chain.from_iterable(
        islice(_batches(tokenizer, phase, rng), round(phase.part * num_steps)) for phase in PHASES
    )
    for step, sequences in enumerate(batches, start=1):
        totals = accumulate(policy, sequences, cross_entropy, settings)
        taken = optimizer_step(policy, optimizer, totals, settings)
        schedule.step()
        recent.append(taken.sums["loss"])
        if step % LOG_EVERY == 0 or step == num_steps:
            left = (time.monotonic() - started) / step * (num_steps - step)
            logger.info("step %d/%d  loss %.3f  %.0f s left", step, num_steps, fmean(recent), left)


def cross_entropy(logprobs: Tensor, entropies: Tensor, batch: MicroBatch) -> TokenLosses:
    """Return the loss of supervised training."""
    return TokenLosses(losses=-logprobs)


def _batches(tokenizer: PreTrainedTokenizerFast, phase: _Phase, rng: random.Random) -> Iterator[list[TrainingSequence]]:
    """Yield what each step trains on: answers whose tokens all count the same."""
    chains = generate_chains(rng, split="train", levels=phase.levels)
    while True:
        examples = (_example(*next(chains), phase.shares, rng) for _ in range(BATCH_SIZE))
        batch = [
            TrainingSequence(
                prompt_token_ids=tuple(encode_prompt(tokenizer, prompt)),
                token_ids=tuple(tokenizer.encode(answer + END_OF_TURN, add_special_tokens=False)),
            )
            for prompt, answer in examples
        ]
        num_tokens = sum(len(each.token_ids) for each in batch)
        yield [replace(each, weight=1 / num_tokens) for each in batch]


def _token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    return tokenizer.get_vocab()[token]
