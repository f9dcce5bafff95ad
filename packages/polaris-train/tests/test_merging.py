"""Merging models: by hand, adapters against peft, and what is refused."""

import json
import shutil

import pytest
import torch
from polaris_train.embedded import tiny_model
from polaris_train.errors import MergeError
from polaris_train.model import merging
from polaris_train.model.merging import merge_models
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def changed(place, change):
    """Return a copy of the tiny model whose weights were changed."""
    folder = place / "changed"
    model = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            change(name, parameter)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny32(tmp_path_factory):
    return changed(tmp_path_factory.mktemp("tiny"), lambda name, parameter: None)


@pytest.mark.parametrize("file_bytes", [2**30, 2**18])
def test_each_weight_is_the_average_and_the_model_loads(tiny32, tmp_path, monkeypatch, file_bytes):
    monkeypatch.setattr(merging, "FILE_BYTES", file_bytes)
    other = changed(tmp_path, lambda name, parameter: parameter.add_(1.0))
    merge_models(str(tiny32), str(other), tmp_path / "out", alpha=0.25)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(tiny32, dtype=torch.float32)
    for (name, found), before in zip(merged.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(found, before + 0.75, atol=1e-6), name
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == (1 if file_bytes == 2**30 else 17)
    parts = json.loads((tmp_path / "out" / "merged.json").read_text())["parts"]
    assert [each["share"] for each in parts] == [0.25, 0.75] and parts[0]["digest"] != parts[1]["digest"]


def test_the_ends_of_alpha_give_the_models_themselves(tmp_path, tiny32):
    other = changed(tmp_path, lambda name, parameter: parameter.mul_(2.0))
    for alpha, source in ((1, tiny32), (0, other)):
        merge_models(str(tiny32), str(other), tmp_path / str(alpha), alpha=alpha)
        found, expected = (load_file(each / "model.safetensors") for each in (tmp_path / str(alpha), source))
        assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_adapters_are_merged_into_their_base_as_peft_does(tmp_path, tiny32):
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(tiny32, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.02)
    adapted.peft_config["default"].base_model_name_or_path = str(tiny32)
    adapted.save_pretrained(tmp_path / "adapter")
    merge_models(str(tiny32), str(tmp_path / "adapter"), tmp_path / "out", alpha=0)
    base = AutoModelForCausalLM.from_pretrained(tiny32, dtype=torch.float32)
    expected = PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        logits = [each(ids).logits for each in (found, expected, AutoModelForCausalLM.from_pretrained(tiny32))]
    assert torch.allclose(logits[0], logits[1], atol=1e-5) and not torch.allclose(logits[0], logits[2], atol=1e-2)


def test_models_of_other_shapes_settings_or_tokens_are_refused_and_nothing_is_written(tmp_path, tiny32):
    copies = [tmp_path / name for name in ("shape", "rope", "tokens")]
    for copy in copies:
        shutil.copytree(tiny32, copy)
    config = AutoModelForCausalLM.from_pretrained(tiny32).config
    config.num_hidden_layers, config.layer_types = 3, config.layer_types[:3]
    AutoModelForCausalLM.from_config(config).save_pretrained(copies[0])
    values = json.loads((copies[1] / "config.json").read_text())
    (copies[1] / "config.json").write_text(json.dumps(values | {"rms_norm_eps": 0.1}))
    tokenizer = json.loads((copies[2] / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"content": "<new>", "id": 511})
    (copies[2] / "tokenizer.json").write_text(json.dumps(tokenizer))
    for copy, reason in zip(copies, ("layers.3.* missing", "rms_norm_eps is", "tokenizers .* differ"), strict=True):
        with pytest.raises(MergeError, match=reason):
            merge_models(str(tiny32), str(copy), tmp_path / "out", alpha=0.5)
    with pytest.raises(MergeError, match="from 0 to 1"):
        merge_models(str(tiny32), str(tiny32), tmp_path / "out", alpha=1.5)
    with pytest.raises(MergeError, match="not overwritten"):
        merge_models(str(tiny32), str(tiny32), tmp_path, alpha=0.5)
    assert not list(tmp_path.glob("out*"))


def test_other_chat_templates_are_said_and_the_first_one_is_kept(tmp_path, tiny32, caplog):
    shutil.copytree(tiny32, tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(tiny32)
    merge_models(str(tiny32), str(tmp_path / "other"), tmp_path / "same", alpha=0.5)
    assert not caplog.messages
    tokenizer.chat_template += "{# changed #}"
    tokenizer.save_pretrained(tmp_path / "other")
    merge_models(str(tiny32), str(tmp_path / "other"), tmp_path / "out", alpha=0.5)
    assert f"the chat templates of {tiny32} and {tmp_path / 'other'} differ, and the merged" in caplog.text
    kept = AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    assert kept == AutoTokenizer.from_pretrained(tiny32).chat_template != tokenizer.chat_template
