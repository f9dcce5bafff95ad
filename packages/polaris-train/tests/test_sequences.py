"""From traces to steps: what is set aside, what is drawn when, and the loss against a slow formulation."""

import json
import random

import pytest
import torch
from polaris_train.embedded import tiny_model
from polaris_train.model import Policy, StepSettings, TrainingSequence, accumulate
from polaris_train.model.attention import attention_implementation
from polaris_train.sft.conversation import Conversations
from polaris_train.sft.loop import negative_logprobs, validation_loss
from polaris_train.sft.sequences import Traces, num_learned, with_equal_weights, write_sequences
from transformers import AutoModelForCausalLM, AutoTokenizer


def conversation(*said):
    roles = ["user", "assistant"] * len(said)
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]}


ROWS = [
    *(conversation(f"What is {number} + 1?", f"It is {number + 1}.") for number in range(30)),
    conversation("What is 5 + 1?", "Six, that is \\boxed{6}."),
    conversation("What is 40 + 2?", "42", "Sure?", "Yes, 42."),
]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(tiny_model())


def write(rows, tokenizer, out, **options):
    placed = [(f"t.jsonl:{number}", row) for number, row in enumerate(rows, 1)]
    conversations = Conversations(tokenizer, stop_token_ids=[])
    return write_sequences(placed, conversations, out, context=options.pop("context", 256), **options)


@pytest.fixture(scope="module")
def path(tokenizer, tmp_path_factory):
    out = tmp_path_factory.mktemp("sft") / "sequences.arrow"
    made = write(ROWS, tokenizer, out)
    assert (made.num_traces, made.num_sequences, made.set_aside) == (32, 32, {})
    return out


def test_what_cannot_be_learned_is_set_aside_with_place_and_reason(tokenizer, tmp_path):
    rows = [conversation("Hi"), conversation("What is 1 + 1? Answer in \\boxed{}.", "2"), ROWS[0], {"text": "x"}]
    aside = []
    made = write([*rows, conversation("Long?", "long " * 80)], tokenizer, tmp_path / "s",
                 held_out=["What  is 1 + 1?"], context=100, set_aside=aside)  # fmt: skip
    assert (made.num_traces, sum(made.set_aside.values())) == (1, 4)
    assert [each["place"] for each in aside] == ["t.jsonl:1", "t.jsonl:2", "t.jsonl:4", "t.jsonl:5"]
    reasons = [each["reason"] for each in aside]
    assert "held-out" in reasons[1] and "no 'messages'" in reasons[2] and "context = 100" in reasons[3]


def test_traces_of_one_question_are_all_learned_or_all_validated_and_a_tenth_at_most(path):
    for seed in range(20):
        traces = Traces(path, num_validated=1000, seed=seed)
        assert sorted(traces.learned + traces.validated) == list(range(32))
        assert 0 < len(traces.validated) <= 3
        assert (5 in traces.validated) == (30 in traces.validated)
    assert Traces(path, num_validated=0, seed=0).validated == []


def test_every_trace_is_drawn_once_in_each_epoch_in_an_order_of_its_own(path):
    traces = Traces(path, num_validated=3, seed=1)
    size, each = len(traces.learned), 7
    steps = traces.num_steps(epochs=3, traces_per_step=each)
    assert steps == -(-3 * size // each)
    drawn = [trace for step in range(1, steps + 1) for trace in traces.draw(step, epochs=3, traces_per_step=each)]
    epochs = [drawn[start : start + size] for start in range(0, 3 * size, size)]
    assert all(sorted(epoch) == traces.learned for epoch in epochs) and len(drawn) == 3 * size
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_weights_of_a_step_add_up_to_one_and_users_have_none():
    single = TrainingSequence(prompt_token_ids=(1,), token_ids=(2, 3))
    several = TrainingSequence(prompt_token_ids=(1,), token_ids=(2, 3, 4, 5), weight=(1.0, 0.0, 0.0, 1.0))
    first, second = with_equal_weights([single, several])
    assert first.weight == 0.25 and second.weight == (0.25, 0.0, 0.0, 0.25)
    assert num_learned([single, several]) == 4


def slow_loss(model, tokenizer, rows):
    """Return the mean over all turns' tokens, each turn by itself after its prompt, from whole logits."""
    losses = []
    for row in rows:
        messages = row["messages"]
        for index in range(1, len(messages), 2):
            prompt = tokenizer.apply_chat_template(messages[:index], tokenize=False, add_generation_prompt=True)
            ids = tokenizer.encode(prompt + messages[index]["content"] + "<|im_end|>", add_special_tokens=False)
            start = len(tokenizer.encode(prompt, add_special_tokens=False))
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            losses += [-logprobs[place - 1, ids[place]].item() for place in range(start, len(ids))]
    return sum(losses) / len(losses), len(losses)


@pytest.mark.parametrize("max_tokens", [1, 64, 4096])
def test_the_loss_is_the_mean_over_the_assistants_tokens_whatever_the_micro_batches(path, tokenizer, max_tokens):
    attention = attention_implementation(torch.device("cpu"), torch.float32)
    model = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32, attn_implementation=attention)
    policy, traces = Policy(model), Traces(path, num_validated=0, seed=0)
    chosen = [*random.Random(0).sample(range(30), 4), 30, 31]
    sequences = with_equal_weights(traces.sequences(chosen))
    settings = StepSettings(max_tokens=max_tokens)
    totals = accumulate(policy, sequences, negative_logprobs, settings)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        expected, count = slow_loss(plain, tokenizer, [ROWS[each] for each in chosen])
    assert num_learned(sequences) == count
    assert totals.sums["loss"].item() == pytest.approx(expected, rel=1e-5)
    traces.validated = chosen
    assert validation_loss(policy, traces, settings) == pytest.approx(expected, rel=1e-5)


def test_the_file_is_the_same_whenever_it_is_made(path, tokenizer, tmp_path):
    write(json.loads(json.dumps(ROWS)), tokenizer, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
