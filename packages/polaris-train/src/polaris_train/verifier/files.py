"""A verifier's folder, and its score file: what ``polaris-train verifier`` reads and writes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polaris_data.files import write_json, write_text
from polaris_eval import load_benchmark
from polaris_eval.running import grade_groups, read_completions
from polaris_reward import boxed_grader
from polaris_rollout import derive_seed, model_digest
from safetensors.torch import load_file, save_file

from polaris_train.errors import VerifierError
from polaris_train.verifier.head import Head, fit_head
from polaris_train.verifier.reports import RIGHT, Report, report_on
from polaris_train.verifier.states import Reader

_HEAD, _SETTINGS = "head.safetensors", "verifier.json"


def train_verifier(
    *files: Path,
    model: str,
    out: Path,
    suffix: str,
    problems: str | None = None,
    test_share: float = 0.2,
    seed: int = 0,
) -> Report:
    """Train a head on completions, which are graded here, and write its folder.

    Problems are split by a hash: no problem has completions on both sides.

    Args:
        files: Of completions, in any form that ``polaris-eval grade`` reads.
        model: That reads them; frozen.
        out: Folder to write: ``head.safetensors``, ``verifier.json``.
        suffix: Of every question.
        problems: File of the problems, where the completions do not hold questions and answers.
        test_share: Of the problems that only tell how good it is.
        seed: Of the split.

    Returns:
        What it does for these.

    Raises:
        VerifierError: If there are too few problems, or all completions to learn from are right or all wrong.
    """
    with boxed_grader() as grader:
        groups = grade_groups(_read(files, problems), grader.grade_many)
    order = sorted(range(len(groups)), key=lambda place: derive_seed(seed, "verifier", groups[place]["problem_id"]))
    num_test = max(1, round(test_share * len(groups)))
    if num_test >= len(groups):
        raise VerifierError(f"{len(groups)} problems leave none to learn from and to test on; give two or more")
    chosen = set(order[:num_test])
    test = [group for place, group in enumerate(groups) if place in chosen]
    train = [group for place, group in enumerate(groups) if place not in chosen]
    correct = [each["outcome"] == RIGHT for group in train for each in group["completions"]]
    if len(set(correct)) < 2:
        raise VerifierError(
            f"all {len(correct)} completions to learn from are {'right' if correct[0] else 'wrong'}; give some of both"
        )
    reader = Reader(model, suffix=suffix)
    head = fit_head(reader.states(train), correct)
    report = report_on(test, by_group(test, head.probabilities(reader.states(test))))
    _write(out, head, reader, suffix=suffix, report=report, train=train, seed=seed)
    return report


def score_completions(
    *files: Path, verifier: Path, out: Path, problems: str | None = None, model: str | None = None
) -> int:
    """Write a line of scores for each problem, as ``polaris-eval grade --scores`` takes it; return how many.

    Args:
        files: Of completions, as `train_verifier` takes them.
        verifier: Folder that it wrote.
        out: File to write.
        problems: As there.
        model: Where the model is now, if it has moved.

    Raises:
        VerifierError: If the folder holds no verifier, or the model is another one.
    """
    try:
        settings = json.loads((verifier / _SETTINGS).read_text(encoding="utf-8"))
        tensors = load_file(verifier / _HEAD)
        head = Head(weight=tensors["weight"], bias=tensors["bias"])
        suffix, digest, place = settings["suffix"], settings["digest"], model or settings["model"]
    except (OSError, ValueError, KeyError) as error:
        raise VerifierError(f"{verifier} holds no verifier ({error}); make one with 'train'") from None
    groups = _read(files, problems)
    reader = Reader(place, suffix=suffix)
    if model_digest(reader.model) != digest:
        raise VerifierError(f"{reader.model} is not the model that {verifier} was trained on; name that with --model")
    scores = by_group(groups, head.probabilities(reader.states(groups)))
    records = [{"problem_id": group["problem_id"], "scores": own} for group, own in zip(groups, scores, strict=True)]
    write_text(out, (json.dumps(record) + "\n" for record in records))
    return len(records)


def by_group(groups: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> list[list[float]]:
    """Return the scores of completions that stand in a row, those of each group together."""
    rest = iter(scores)
    return [[next(rest) for _ in group["completions"]] for group in groups]


def _read(files: Sequence[Path], problems: str | None) -> list[dict[str, Any]]:
    for file in files:
        if not file.is_file():
            raise VerifierError(f"no file {str(file)!r}; give files of completions")
    read = read_completions(*files, benchmark=None if problems is None else load_benchmark(problems))
    return list(read.groups)


def _write(
    out: Path, head: Head, reader: Reader, *, suffix: str, report: Report, train: Sequence[Mapping[str, Any]], seed: int
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f"{_HEAD}.tmp"
    save_file({"weight": head.weight, "bias": head.bias}, temporary)
    temporary.replace(out / _HEAD)
    settings = {"model": reader.model, "digest": model_digest(reader.model), "suffix": suffix, "seed": seed}
    write_json(
        out / _SETTINGS,
        settings | {"trained_on": [group["problem_id"] for group in train], "held_out": asdict(report)},
    )
