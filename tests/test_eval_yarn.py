"""An evaluation beyond a model's positions, from the command to the report."""

import json
import shutil

from polaris_train.embedded import tiny_model

POSITIONS = 64
CONTEXT = 192


def test_an_evaluation_beyond_the_positions_derives_yarn_and_shows_accuracy_by_length(command, tmp_path):
    folder = tmp_path / "short"
    shutil.copytree(tiny_model(), folder)
    for name, changes in {
        "config.json": {"max_position_embeddings": POSITIONS},
        "generation_config.json": {"eos_token_id": [0]},  # It does not stop where answers end.
        "tokenizer_config.json": {"eos_token": "<|endoftext|>"},
    }.items():
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes))
    # The canary compares every log-probability with that of transformers under the same YaRN.
    done = command(
        "polaris-eval", "run", "synthetic:held-out", "--model", "short", "--context", CONTEXT, "--limit", 4,
        "--samples", 2, "--out", "out", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "YaRN with factor 3" in done.stderr
    assert "Accuracy by length" in done.stdout
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["protocol"]["yarn"]["factor"] == CONTEXT / POSITIONS
    assert scores["protocol"]["budgets"] == [32, 64, 96, 128, 160]
    (evaluation,) = scores["evaluations"]
    assert evaluation["lengths"]["mean"] > POSITIONS
    # The prompts take more than 32 of the 192 tokens, so no completion is longer than 160.
    assert [point["max_tokens"] for point in evaluation["budgets"]] == [32, 64, 96, 128]
