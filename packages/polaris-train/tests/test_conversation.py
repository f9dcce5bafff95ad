"""Which tokens of a conversation are learned: worked out by hand, and with templates that change the history."""

import pytest
from polaris_rollout import encode_prompt
from polaris_train.embedded import tiny_model
from polaris_train.sft.conversation import Conversations, UnusableTraceError
from transformers import AutoTokenizer

USER = {"role": "user", "content": "What is 2 + 3?"}
ANSWER = {"role": "assistant", "content": "It is 5."}
MORE = {"role": "user", "content": "And 3 + 3?"}
SIX = {"role": "assistant", "content": "It is 6."}

FORGETS_THOUGHTS = """{% set last = namespace(user=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}{% set said = m.content.split('</think>')[-1] %}
{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.role == 'assistant' and '</think>' in m.content and loop.index0 > last.user %}
{{- '<think>' + m.content.split('</think>')[0].split('<think>')[-1] + '</think>' }}{% endif %}
{{- said + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
"""As Qwen3's: thoughts before the last question are not shown again."""


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(tiny_model())


def conversations(tokenizer, template=None):
    changed = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    changed.chat_template = template or tokenizer.chat_template
    return Conversations(changed, stop_token_ids=[])


def shown(tokenizer, learned):
    """Return all that is read, and what of it is learned, as text."""
    return tokenizer.decode(learned.token_ids), [
        tokenizer.decode(learned.token_ids[start:end]) for start, end in learned.spans
    ]


def test_the_answer_and_the_token_that_ends_it_are_learned_and_nothing_else(tokenizer):
    (learned,) = conversations(tokenizer).learn([USER, ANSWER])
    before = "<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\n"
    assert shown(tokenizer, learned) == (before + "It is 5.<|im_end|>", ["It is 5.<|im_end|>"])
    (start, end), *_ = learned.spans
    assert learned.token_ids[:start] == encode_prompt(tokenizer, USER["content"])
    assert learned.token_ids[start:] == tuple(tokenizer.encode("It is 5.<|im_end|>", add_special_tokens=False))
    assert end == len(learned.token_ids)


def test_every_turn_of_the_assistant_is_learned_in_one_sequence_where_the_history_stays(tokenizer):
    system = {"role": "system", "content": "Be brief."}
    (learned,) = conversations(tokenizer).learn([system, USER, ANSWER, MORE, SIX])
    _, said = shown(tokenizer, learned)
    assert said == ["It is 5.<|im_end|>", "It is 6.<|im_end|>"]
    between = learned.token_ids[learned.spans[0][1] : learned.spans[1][0]]
    assert tokenizer.decode(between) == "\n<|im_start|>user\nAnd 3 + 3?<|im_end|>\n<|im_start|>assistant\n"


def test_turns_that_the_template_shows_otherwise_later_are_learned_as_they_were_said(tokenizer):
    thought = {"role": "assistant", "content": "<think>Count.</think>It is 5."}
    first, second = conversations(tokenizer, FORGETS_THOUGHTS).learn([USER, thought, MORE, SIX])
    assert shown(tokenizer, first)[1] == ["<think>Count.</think>It is 5.<|im_end|>"]
    whole, said = shown(tokenizer, second)
    assert said == ["It is 6.<|im_end|>"]
    assert "Count" not in whole and "It is 5." in whole


def test_a_turn_that_begins_in_the_middle_of_a_token_is_encoded_after_its_prompt(tokenizer):
    """The engine has sampled it after the prompt's own tokens, and so it is learned."""
    word = next(each for each in tokenizer.get_vocab() if each.isalpha() and each.isascii() and len(each) > 3)
    template = tokenizer.chat_template.replace("assistant\n'", f"assistant\n{word[:2]}'")
    begun = f"('{word[:2]}' if message.role == 'assistant' else '')"
    template = template.replace("message['content'] +", f"{begun} + message.content +")
    (learned,) = conversations(tokenizer, template).learn([USER, {"role": "assistant", "content": word[2:]}])
    whole, said = shown(tokenizer, learned)
    assert said == [f"{word[2:]}<|im_end|>"] and whole.endswith(f"assistant\n{word}<|im_end|>")
    assert tokenizer.encode(word, add_special_tokens=False) != list(learned.token_ids[-3:-1])
    assert tuple(tokenizer.encode(whole, add_special_tokens=False)) != learned.token_ids


def test_a_call_of_a_tool_is_learned_where_the_template_shows_it(tokenizer):
    template = tokenizer.chat_template.replace(
        "message['content'] +", "message.content + message.tool_calls | string +"
    )
    assert template != tokenizer.chat_template
    (learned,) = conversations(tokenizer, template).learn([USER, ANSWER | {"tool_calls": ["add"]}])
    assert shown(tokenizer, learned)[1] == ["It is 5.['add']<|im_end|>"]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "no 'messages'"),
        ([], "no 'messages'"),
        ("text", "no 'messages'"),
        ([USER], "no turn of the role 'assistant'"),
        ([ANSWER], "begins with the role 'assistant'"),
        ([{"content": "x"}, ANSWER], "without a role"),
        ([USER, {"role": "assistant", "content": [{"type": "image"}]}], "is no text"),
        (
            [{"role": "user", "content": "<|im_start|>user\nHi"}, ANSWER],
            r"holds '<\|im_start\|>', which a chat template",
        ),
        (
            [USER, {"role": "assistant", "content": "5<|eot_id|>"}],
            r"holds '<\|eot_id\|>', a mark of another chat template",
        ),
        ([{"role": "user", "content": "[INST] Hi [/INST]"}, ANSWER], r"holds '\[INST\]', a mark of another"),
        ([USER, ANSWER | {"reasoning_content": "5<end_of_turn>"}], "holds '<end_of_turn>', a mark of another"),
        ([USER, {"role": "assistant", "content": " \n"}], "says nothing in a turn"),
        ([USER, ANSWER, MORE, {"role": "assistant", "content": None}], "says nothing in a turn"),
        ([USER, ANSWER | {"reasoning_content": "So.<|im_end|>"}], r"holds '<\|im_end\|>'"),
        ([USER, ANSWER | {"tool_calls": [{"arguments": "<|im_end|>"}]}], r"holds '<\|im_end\|>'"),
        ([{"role": "user<|im_end|>", "content": "Hi"}, ANSWER], r"holds '<\|im_end\|>'"),
        ([USER, ANSWER | {"tool_calls": [{"name": "add", "arguments": {}}]}], "leaves out the assistant's tool_calls"),
    ],
)
def test_what_is_no_conversation_is_refused_with_the_reason(tokenizer, messages, reason):
    with pytest.raises(UnusableTraceError, match=reason):
        conversations(tokenizer).learn(messages)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        # As that of DeepSeek-R1-Distill: the generation prompt opens the thoughts, and the turn is shown without.
        ("{% for m in messages %}{{ m.role + m.content.split('</think>')[-1] + '<|im_end|>' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ 'assistant<think>' }}{% endif %}", "follows its generation prompt"),
        ("{% for m in messages %}{{ m.role + m.content.split('</think>')[-1] + '<|im_end|>' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ 'assistant' }}{% endif %}", "leaves out a part of the assistant's content"),
        ("{% for m in messages %}{{ m.role + m.content + '.' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ 'assistant' }}{% endif %}", "does not end the assistant's turn"),
        ("{{ raise_exception('only one turn') }}", "refuses it"),
    ],
)  # fmt: skip
def test_a_template_that_does_not_show_the_turn_is_refused_with_the_reason(tokenizer, template, reason):
    thought = {"role": "assistant", "content": "<think>Count.</think>It is 5."}
    with pytest.raises(UnusableTraceError, match=reason):
        conversations(tokenizer, template).learn([USER, thought])
