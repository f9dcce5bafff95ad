"""Which texts were rendered by a chat template, and which only look so."""

import pytest
from polaris_train.sft.marks import template_mark


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("<|start_header_id|>user<|end_header_id|>\n\n2 + 3?<|eot_id|>", "<|start_header_id|>"),
        ("It is 5.<|eot_id|>", "<|eot_id|>"),
        ("It is 5.<|end|>", "<|end|>"),
        ("<｜User｜>2 + 3?<｜Assistant｜>", "<｜User｜>"),
        ("It is 5.<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
        ("<start_of_turn>user\n2 + 3?<end_of_turn>", "<start_of_turn>"),
        ("<|turn>user\n2 + 3?<turn|>", "<|turn>"),
        ("[|user|]2 + 3?", "[|user|]"),
        ("[INST] 2 + 3? [/INST]", "[INST]"),
        ("<s>[INST] 2 + 3? [/INST] 5</s>", "[INST]"),
        ("<<SYS>>\nBe brief.\n<</SYS>>\n\n2 + 3?", "<<SYS>>"),
        ("5</s>", "</s>"),
        ("5</s>\n", "</s>"),
        ("5</s></s>", "</s>"),
        ("<s>It is 5.</s>", "<s>"),
        ("<s> It is 5.", "<s>"),
        ("<bos>It is 5.", "<bos>"),
        ("It is 5.<eos>", "<eos>"),
        ("Not <s>4</s> but 5.</s>", "</s>"),
        ("```python\nprint(5)\n```\nIt is 5.<|eot_id|>", "<|eot_id|>"),
        ("```python\nprint(5)<|eot_id|>", "<|eot_id|>"),
    ],
)
def test_what_only_a_template_writes_is_found(text, mark):
    assert template_mark(text) == mark


@pytest.mark.parametrize(
    "text",
    [
        "It is 5.",
        r"where $|x|<|y|$ and $|x|>|y|$, so $0<|x-y|>\varphi$ and $a<|b|>c$",
        "the mean <|v|> is less than <|v_max|>, and <|sin|> = 2/pi",
        r"the interval $[|x|, |y|]$, the norm $[|x|]$, the case $[1]$ and $\langle\psi|\phi\rangle$",
        "f <| g |> h, and (<|>) in Haskell",
        "3 <s> 4 and s</s> t",
        "<s>4</s> 5",
        "not <s>4</s> but 5",
        "5, not <s>4</s>",
        "<s>4</s> 5 <s>6</s>",
        "the model ends with <eos> and begins with <bos>; both are tokens",
        "the tokenizer of Llama 3 ends a turn with `<|eot_id|>`",
        '```html\n<s>4</s>\n```\nand ```\ntokenizer.encode("[INST]")\n```',
        "<|begin_of_thought|>\n2 + 3\n<|end_of_thought|>\n<|begin_of_solution|>5<|end_of_solution|>",
        "a<b>c</b>",
    ],
)
def test_mathematics_and_code_hold_no_mark(text):
    assert template_mark(text) is None


def test_marks_that_the_model_itself_says_are_none():
    said = "It is <|begin_of_box|>5<|end_of_box|>."
    assert template_mark(said) == "<|begin_of_box|>"
    assert template_mark(said, own={"<|begin_of_box|>", "<|end_of_box|>"}) is None
    assert template_mark(said + "<|eot_id|>", own={"<|begin_of_box|>", "<|end_of_box|>"}) == "<|eot_id|>"
