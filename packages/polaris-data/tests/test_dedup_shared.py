"""Labelled pairs of real problems, which lie beside the repository where they are available."""

import json
from pathlib import Path

import pytest
from polaris_data import read_problems
from polaris_data.duplicates.benchmarks import KEPT
from polaris_data.duplicates.decontaminate import find_contamination
from polaris_data.duplicates.dedup import find_duplicates

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
BENCHMARKS = ("math500", "olympiadbench", "aime24", "aime25", "amc22_23", "minerva")

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real problem sets are not beside the repository")


def labels(name):
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_labelled_duplicates_are_found_and_similar_problems_are_not():
    clusters = find_duplicates(read_problems(DATA / "train_sample.jsonl"))
    cluster_of = {member.problem_id: place for place, cluster in enumerate(clusters) for member in cluster.members}

    def merged(pair):
        return pair["a"] in cluster_of and cluster_of[pair["a"]] == cluster_of.get(pair["b"])

    truth = labels("near_duplicates_truth")
    found = sum(map(merged, truth))
    wrong = sum(merged(pair) for pair in labels("near_duplicates_negatives") if pair["verdict"] == "different")
    print(f"duplicates: recall {found / len(truth):.4f}, precision {found / (found + wrong):.4f}")
    assert found >= 0.97 * len(truth)
    assert found >= 0.97 * (found + wrong)


def test_labelled_contamination_is_found_and_near_misses_are_not():
    benchmarks = {name: read_problems(DATA / f"{name}.jsonl") for name in BENCHMARKS}
    truth, near_misses = labels("contamination_truth"), labels("contamination_near_misses")
    files = sorted({name for pair in [*truth, *near_misses] for name in pair["train_files"]})
    named = {pair["train_id"] for pair in [*truth, *near_misses]}
    kinds = {}
    for name in files:
        problems = [p for p in read_problems(DATA / name, on_invalid="skip") if p.problem_id in named]
        for finding in find_contamination(problems, benchmarks):
            if finding and finding.kind not in KEPT:
                kinds[name, finding.problem_id] = finding.benchmark_id
    found = sum(all((name, pair["train_id"]) in kinds for name in pair["train_files"]) for pair in truth)
    wrong = sum(
        any(kinds.get((name, pair["train_id"])) == pair["benchmark_id"] for name in pair["train_files"])
        for pair in near_misses
    )
    print(f"contamination: recall {found / len(truth):.4f}, precision {found / (found + wrong):.4f}")
    assert found >= 0.97 * len(truth)
    assert found >= 0.97 * (found + wrong)
