"""The reward function inside the real GRPOTrainer: what TRL passes to it, and what TRL makes of its rewards."""

import math
import re
from importlib import import_module
from pathlib import Path

import pytest
from polaris_reward import CircuitBreakerError
from polaris_reward.trl import accuracy_reward
from polaris_train.embedded import tiny_model

README = Path(__file__).resolve().parents[1] / "packages" / "polaris-reward" / "README.md"

NUM_COMPLETIONS = 4


def train(tmp_path, prompts, answers, *, reward_func, num_steps=1):
    """Train a random model of 30 thousand parameters; returns what the trainer logged at each step."""
    from datasets import Dataset
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    trainer = GRPOTrainer(
        model=Qwen3ForCausalLM(config),
        processing_class=tokenizer,
        reward_funcs=[reward_func],
        train_dataset=Dataset.from_dict({"prompt": prompts, "solution": answers}),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            max_steps=num_steps,
            num_generations=NUM_COMPLETIONS,
            per_device_train_batch_size=len(prompts) * NUM_COMPLETIONS,
            max_completion_length=8,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            shuffle_dataset=False,
        ),
    )
    trainer.train()
    return [entry for entry in trainer.state.log_history if "reward" in entry]


@pytest.fixture(autouse=True)
def _without_the_engine(monkeypatch):
    """Keep TRL from importing vLLM: it takes ten seconds, and reads an environment that our sampler sets first."""
    monkeypatch.setattr(import_module("trl.import_utils"), "is_vllm_available", lambda *_, **__: False)


def right_every_second_time(completions, **columns):
    """Put 4 and 5 by turns in the place of what a random model says, in the form in which TRL passes it."""
    said = [r"\boxed{5}" if number % 2 else r"\boxed{4}" for number in range(len(completions))]
    if not isinstance(completions[0], str):
        said = [[{**messages[0], "content": text}] for messages, text in zip(completions, said, strict=True)]
    return accuracy_reward(said, **columns)


@pytest.mark.parametrize("prompt", ["2+2=", [{"role": "user", "content": "2+2="}]], ids=["plain text", "conversation"])
def test_trl_logs_the_reward_of_plain_and_conversational_completions(tmp_path, prompt):
    logged = train(tmp_path, [prompt] * 2, ["4", "4"], reward_func=right_every_second_time, num_steps=2)
    assert len(logged) == 2
    for entry in logged:
        assert entry["reward"] == 0.5
        assert entry["rewards/right_every_second_time/mean"] == 0.5
        assert entry["reward_std"] > 0


def test_trl_leaves_out_completions_whose_reference_cannot_be_read(tmp_path):
    (entry,) = train(tmp_path, ["2+2=", "3+3="], ["4", "{{"], reward_func=right_every_second_time)
    assert entry["reward"] == pytest.approx(0.5)
    assert math.isfinite(entry["grad_norm"])


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    (example,) = [
        block for block in re.findall(r"```py\n(.*?)```", README.read_text(), re.DOTALL) if "GRPOTrainer" in block
    ]
    monkeypatch.chdir(tmp_path)
    exec(example.replace("Qwen/Qwen3-0.6B", str(tiny_model())).replace("max_steps=10", "max_steps=1, use_cpu=True"), {})


def test_trl_takes_the_function_itself(tmp_path):
    (entry,) = train(tmp_path, ["3^20="], ["3486784401"], reward_func=accuracy_reward)
    assert entry["rewards/accuracy_reward/mean"] == 0.0


def test_trl_stops_when_most_of_a_batch_cannot_be_graded(tmp_path):
    with pytest.raises(CircuitBreakerError):
        train(tmp_path, ["2+2="] * 8, ["{{"] * 8, reward_func=right_every_second_time)
