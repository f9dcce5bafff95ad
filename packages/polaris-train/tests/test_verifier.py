"""A verifier of the tiny model on its own completions, and its figures by hand."""

import json
import subprocess
import sys

import pytest
import torch
from polaris_data import PROMPT_SUFFIX, to_prompt
from polaris_data.problems import synthetic_problems
from polaris_eval.scores import read_scores
from polaris_rollout import encode_prompts
from polaris_train.embedded import tiny_model
from polaris_train.errors import VerifierError
from polaris_train.verifier import area_under_curve, fit_head, report_on, score_completions, train_verifier
from transformers import AutoModelForCausalLM, AutoTokenizer

NUM_PROBLEMS, SAMPLES = 24, 8


def group(outcomes, votes):
    return {
        "problem_id": "p",
        "completions": [{"outcome": outcome, "vote": vote} for outcome, vote in zip(outcomes, votes, strict=True)],
    }


def test_the_area_under_the_curve_counts_pairs_and_half_a_tie():
    # right 0.9, 0.4; wrong 0.4, 0.1, 0.5: of six pairs 0.9 wins three, 0.4 wins one, ties one, loses one
    assert area_under_curve([0.9, 0.4, 0.4, 0.1, 0.5], [True, True, False, False, False]) == 4.5 / 6
    assert area_under_curve([1, 2], [True, True]) is None


def test_the_gap_that_a_choice_closes_by_hand():
    groups = [
        group(["correct", "incorrect", "incorrect"], ["7", "3", "3"]),  # the vote is wrong; the score finds it
        group(["incorrect", "correct", "incorrect"], ["1", "5", "1"]),  # the vote is wrong; the score is, too
        group(["correct", "correct", "incorrect"], ["2", "2", "4"]),
        group(["incorrect", "no_answer", "incorrect"], ["1", None, "2"]),
    ]
    scores = [[0.9, 0.4, 0.3], [0.5, 0.6, 0.4], [0.2, 0.2, 0.3], [0.1, 0.9, 0.1]]
    found = report_on(groups, scores)
    shares = [found.majority, found.any_right, found.weighted, found.best]
    assert [each.value for each in shares] == [0.25, 0.75, 0.5, 0.5]
    assert all(0 <= each.interval[0] < each.value < each.interval[1] <= 1 for each in shares)
    assert found.closed(found.weighted_gain) == 0.5 and found.mean.value == pytest.approx(1 / 3)
    # best-of-3 wins the first and the second problem, and loses the third, on which it takes the last answer
    assert found.best_gain.value == 0.25 and found.best_gain.interval[0] < 0 < found.best_gain.interval[1]


def test_a_head_is_where_its_gradient_is_nothing():
    torch.manual_seed(0)
    states, correct = torch.randn(40, 6) * 3 + 1, [bool(each) for each in torch.rand(40) < 0.4]
    head = fit_head(states, correct, weight_decay=0.1)
    every, labels = states.double(), torch.tensor(correct, dtype=torch.float64)
    mean, scale = every.mean(dim=0), every.std(dim=0)
    errors = torch.tensor(head.probabilities(states), dtype=torch.float64) - labels
    slope = ((every - mean) / scale).T @ errors / len(labels) + 0.1 * head.weight * scale
    assert slope.abs().max() < 1e-5 and errors.mean().abs() < 1e-5
    with pytest.raises(ValueError, match="all 2 completions are right"):
        fit_head(states[:2], [True, True])


@pytest.fixture(scope="module")
def completions(tmp_path_factory):
    """What the tiny model answers."""
    path = tmp_path_factory.mktemp("verifier") / "completions.jsonl"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    model = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)
    torch.manual_seed(1)
    problems = synthetic_problems(NUM_PROBLEMS, seed=5, split="train", levels=(2, 3))
    prompts = encode_prompts(tokenizer, list(map(to_prompt, problems)))
    tokenizer.padding_side = "left"
    inputs = tokenizer.pad({"input_ids": [list(each) for each in prompts for _ in range(SAMPLES)]}, return_tensors="pt")
    drawn = model.generate(**inputs, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=96)
    texts = tokenizer.batch_decode(drawn[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    with path.open("w") as file:
        for place, problem in enumerate(problems):
            line = {"problem_id": problem.problem_id, "question": problem.question}
            own = texts[place * SAMPLES : (place + 1) * SAMPLES]
            file.write(json.dumps(line | {"references": list(problem.references), "responses": own}) + "\n")
    return path


def scores_in(path):
    return {each["problem_id"]: each["scores"] for each in map(json.loads, path.read_text().splitlines())}


def test_a_verifier_ranks_what_it_has_not_seen_and_polaris_eval_takes_its_scores(completions, tmp_path, caplog):
    first, again = (
        train_verifier(completions, model="tiny", out=tmp_path / name, suffix=PROMPT_SUFFIX, folds=2)
        for name in ("a", "b")
    )
    assert first == again and first.num_problems == NUM_PROBLEMS
    for name in ("head.safetensors", "scores.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert first.auc is not None and first.auc > 0.6
    assert len(json.loads((tmp_path / "a" / "verifier.json").read_text())["trained_on"]) == NUM_PROBLEMS
    scores = tmp_path / "scores.jsonl"
    assert score_completions(completions, verifier=tmp_path / "a", out=scores) == NUM_PROBLEMS
    assert f"has learned from {NUM_PROBLEMS} of these problems" in caplog.text
    seen, unseen = scores_in(scores), scores_in(tmp_path / "a" / "scores.jsonl")
    assert seen.keys() == unseen.keys() and seen != unseen
    assert all(len(each) == SAMPLES and all(0 <= score <= 1 for score in each) for each in unseen.values())
    words = ["grade", str(completions), "--scores", str(tmp_path / "a" / "scores.jsonl"), "--policy", "boxed"]
    words += ["--out", str(tmp_path / "graded")]
    done = subprocess.run([sys.executable, "-m", "polaris_eval", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (graded,) = read_scores(tmp_path / "graded" / "scores.json").evaluations
    assert graded.score("weighted_vote").value == first.weighted.value
    assert graded.score("best_of").interval == first.best.interval


def test_a_problem_is_scored_by_a_head_that_did_not_learn_from_it(completions, tmp_path):
    """Its own grades change what the other fold learns, and the head of all, but not what is said of it."""
    rows = [json.loads(line) for line in completions.read_text().splitlines()]
    changed = rows[0] | {"references": ["-1"]}  # no answer is that: all of them are wrong now
    (tmp_path / "changed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [changed, *rows[1:]]))
    for name, file in (("plain", completions), ("changed", tmp_path / "changed.jsonl")):
        train_verifier(file, model="tiny", out=tmp_path / name, suffix=PROMPT_SUFFIX, folds=2)
    plain, changed = (scores_in(tmp_path / name / "scores.jsonl") for name in ("plain", "changed"))
    same = [name for name in plain if plain[name] == changed[name]]
    assert rows[0]["problem_id"] in same and len(same) == NUM_PROBLEMS // 2
    assert (tmp_path / "plain" / "head.safetensors").read_bytes() != (
        tmp_path / "changed" / "head.safetensors"
    ).read_bytes()


def test_a_problem_whose_reference_cannot_be_read_teaches_nothing_but_has_scores(completions, tmp_path, caplog):
    bad = {"problem_id": "bad", "question": "1 + 1?", "references": ["\\frac{"], "responses": ["\\boxed{2}"] * SAMPLES}
    (tmp_path / "more.jsonl").write_text(completions.read_text() + json.dumps(bad) + "\n")
    report = train_verifier(tmp_path / "more.jsonl", model="tiny", out=tmp_path / "v", suffix=PROMPT_SUFFIX)
    assert report.num_problems == NUM_PROBLEMS and "1 of 25 references cannot be read" in caplog.text
    assert "bad" not in json.loads((tmp_path / "v" / "verifier.json").read_text())["trained_on"]
    assert len(scores_in(tmp_path / "v" / "scores.jsonl")["bad"]) == SAMPLES


def test_what_a_verifier_cannot_use_is_said_in_one_sentence(completions, tmp_path):
    one = tmp_path / "one.jsonl"
    one.write_text(completions.read_text().splitlines()[0] + "\n")
    with pytest.raises(VerifierError, match="1 problems are fewer than 5 folds; give more, or fewer --folds"):
        train_verifier(one, model="tiny", out=tmp_path / "v", suffix="")
    wrong = tmp_path / "wrong.jsonl"
    rows = [{"id": f"p{place}", "question": f"{place} + 1?", "answer": "9", "responses": ["no"]} for place in range(4)]
    wrong.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(VerifierError, match="completions to learn from are wrong; give some of both"):
        train_verifier(wrong, model="tiny", out=tmp_path / "v", suffix="", folds=2)
    with pytest.raises(VerifierError, match="holds no verifier"):
        score_completions(one, verifier=tmp_path, out=tmp_path / "scores.jsonl")
    assert not (tmp_path / "v").exists()
