"""An evaluation beyond a model's positions, from the command to the report, beside one without YaRN."""

import json
import shutil

import pytest
from polaris_train.embedded import tiny_model

POSITIONS = 64
CONTEXT = 192
FACTOR = 4


def make_model(folder, *, positions):
    shutil.copytree(tiny_model(), folder)
    for name, changes in {
        "config.json": {"max_position_embeddings": positions},
        "generation_config.json": {"eos_token_id": [0]},  # It does not stop where answers end.
        "tokenizer_config.json": {"eos_token": "<|endoftext|>"},
    }.items():
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes))


@pytest.mark.slow
def test_an_evaluation_beyond_the_positions_shows_accuracy_by_length_with_and_without_yarn(command, tmp_path):
    make_model(tmp_path / "short", positions=POSITIONS)
    make_model(
        tmp_path / "stretched", positions=CONTEXT
    )  # the same rotary frequencies, further than they were made for
    scores = {}
    for model, option in {"stretched": (), "short": ("--yarn-factor", FACTOR)}.items():
        # The canary compares every log-probability with that of transformers under the same YaRN.
        done = command(
            "polaris-eval", "run", "synthetic:held-out", "--model", model, "--context", CONTEXT, *option,
            "--limit", 4, "--samples", 2, "--out", f"out/{model}", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (f"YaRN with factor {FACTOR}" in done.stderr) == bool(option)
        assert "Accuracy by length" in done.stdout
        scores[model] = json.loads((tmp_path / "out" / model / "scores.json").read_text())
    assert scores["stretched"]["protocol"]["yarn"] is None
    yarn = scores["short"]["protocol"]["yarn"]
    assert (yarn["factor"], yarn["original_max_position_embeddings"]) == (FACTOR, POSITIONS)
    assert scores["short"]["protocol"]["budgets"] == [32, 64, 96, 128, 160]
    (evaluation,) = scores["short"]["evaluations"]
    assert evaluation["lengths"]["mean"] > POSITIONS
    # The prompts take more than 32 of the 192 tokens, so no completion is longer than 160.
    assert [point["max_tokens"] for point in evaluation["budgets"]] == [32, 64, 96, 128]

    done = command("polaris-eval", "compare", "out/stretched", "out/short", "--page", "both.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "yarn.factor: '(not recorded)' and 4" in done.stderr
    for text in (done.stdout, (tmp_path / "both.html").read_text()):
        assert "Accuracy by length" in text
        assert "synthetic-held-out A" in text
        assert "synthetic-held-out B" in text
