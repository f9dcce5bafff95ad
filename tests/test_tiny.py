"""The embedded model behaves like a real one before training: some problems always solved, some never."""

import json

import pytest
from polaris_train.embedded import tiny_model

BOUND_BYTES = 4 * 2**20


def test_the_embedded_model_is_small():
    assert sum(path.stat().st_size for path in tiny_model().rglob("*")) <= BOUND_BYTES


def test_any_text_survives_the_tokenizer():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    text = "Ünïcödé ∑ x²\t\n\r 漢字 \x00 <|im_start|>"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_pass_rates_fill_all_nine_bins(command, tmp_path):
    done = command("polaris-data", "profile", "synthetic", "--limit", 320, "--out", "profile.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    solved = [json.loads(line)["num_correct"] for line in (tmp_path / "profile.jsonl").read_text().splitlines()]
    assert set(solved) == set(range(9))
    assert 0.3 < sum(solved) / len(solved) / 8 < 0.6


@pytest.mark.slow
def test_the_command_rebuilds_a_model_from_its_seed(command, tmp_path):
    for name in ("one", "two"):
        done = command("polaris-train", "make-tiny", "--out", name, "--steps", 30, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
