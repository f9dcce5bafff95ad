"""Model names and contexts, checked without loading anything."""

import json

import pytest
from polaris_rollout import ModelError
from polaris_rollout.models import (
    check_context,
    model_config,
    model_positions,
    prefilled_think,
    resolve_model,
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


def test_a_folder_and_a_hub_id_are_themselves(folder):
    assert resolve_model(str(folder)) == str(folder)
    assert resolve_model("Qwen/Qwen3-4B") == "Qwen/Qwen3-4B"


def test_a_context_within_the_positions_is_accepted(folder):
    assert model_positions(str(folder)) == 512
    check_context(str(folder), 512)
    check_context(str(folder), None)
    check_context("Qwen/Qwen3-4B", 10**6)  # only a loader knows


@pytest.mark.parametrize(("context", "part"), [(513, "at most 512"), (0, "positive")])
def test_a_context_beyond_the_positions_is_refused(folder, context, part):
    with pytest.raises(ModelError, match=part):
        check_context(str(folder), context)


def test_a_folder_without_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        resolve_model(str(folder))


def test_a_folder_without_or_with_a_broken_config_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        resolve_model(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve_model(str(folder))


@pytest.mark.parametrize("name", ["no-such-model", "./missing/folder", "/missing/folder"])
def test_an_unknown_name_is_refused_with_what_is_possible(name):
    with pytest.raises(ModelError, match="Hub id"):
        resolve_model(name)


def test_the_configuration_of_a_folder_is_what_its_file_says(folder):
    assert model_config(str(folder)) == {"max_position_embeddings": 512}


@pytest.mark.parametrize(
    ("prompt", "tag"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>\n"),
        ("<｜Assistant｜><think>", "<think>"),
        ("<seed:think>", "<seed:think>"),
        ("assistant [THINK] ", "[THINK] "),
        ("<|begin_of_thought|>\n\n", "<|begin_of_thought|>\n\n"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("<|im_start|>assistant\n", ""),
        ("<think> What is it?", ""),
        ("I <3 to think>", ""),
        ("", ""),
    ],
)
def test_a_prompt_that_ends_with_an_opening_think_tag_has_begun_the_answer(prompt, tag):
    assert prefilled_think(prompt) == tag
