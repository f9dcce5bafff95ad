"""Scores that others published; facts with their source, never used to compute anything.

One is set beside a run only where the run is of the same model, in the settings that the figure belongs to.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from polaris_data import PROMPT_SUFFIX

from polaris_eval.benchmarks.registry import BENCHMARKS, Benchmark

POLARIS_README = "README of ChenxinAn-fdu/POLARIS (temperature 1.4, top_k 20, 90,000 tokens)"
"""Its own models are run so; a user measured Qwen3-4B 9 to 15 points higher on minerva and olympiadbench there."""

POLARIS_V2 = "POLARIS V2 blog post, 2026-03-18 (temperature 1.2 to 1.35, top_k 20)"

_MODELS = (
    "DeepScaleR-1.5B",
    "Qwen3-1.7B",
    "POLARIS-1.7B-Preview",
    "R1-Distill-Qwen-7B",
    "AReal-boba-RL-7B",
    "Skywork-OR1-7B-Math",
    "POLARIS-7B-Preview",
    "R1-Distill-Qwen-32B",
    "Qwen3-32B",
    "Qwen3-4B",
    "POLARIS-4B-Preview",
)

_V2_MODELS = ("Qwen3-4B-2507", "Polaris-V2-Qwen3-4B")


def _from_readme(*percents: float) -> dict[str, float]:
    return dict(zip(_MODELS, percents, strict=True))


def _from_v2(*percents: float) -> dict[str, float]:
    return dict(zip(_V2_MODELS, percents, strict=True))


PUBLISHED: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "aime24": {POLARIS_README: _from_readme(43.1, 48.3, 66.9, 55.0, 61.9, 69.8, 72.6, 72.6, 81.4, 73.8, 81.2)},
    "aime25": {
        POLARIS_README: _from_readme(27.2, 36.8, 53.0, 39.7, 48.3, 52.3, 52.6, 54.9, 72.9, 65.6, 79.4),
        POLARIS_V2: _from_v2(80.9, 91.8),
    },
    "aime26": {POLARIS_V2: _from_v2(78.9, 89.5)},
    "hmmt25": {POLARIS_V2: _from_v2(55.6, 80.0)},
    "minerva_polaris": {POLARIS_README: _from_readme(34.6, 34.9, 38.9, 36.7, 39.5, 40.8, 40.2, 42.1, 44.2, 43.6, 44.0)},
    "olympiadbench": {POLARIS_README: _from_readme(40.7, 55.1, 63.8, 56.8, 61.9, 63.2, 65.4, 59.4, 66.7, 62.2, 69.1)},
    "amc22_23": {POLARIS_README: _from_readme(50.6, 75.6, 85.8, 81.9, 86.4, 85.3, 89.0, 84.3, 92.4, 87.2, 94.8)},
}
"""Mean@k in percent, by benchmark, source and model."""


BELONGS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    (POLARIS_README, "POLARIS-4B-Preview"): {
        "temperature": 1.4,
        "top_p": 1.0,
        "top_k": 20,
        "max_tokens": 90_000,
        "suffix": PROMPT_SUFFIX,
    }
}
"""By source and model, the settings of its figures: those that are known exactly. Of other models the source does not
say how they were measured, or gives a range."""

_OTHERWISE_UNSET = ("few_shot", "system_prompt", "chat_template_kwargs", "plain_prompt", "min_p", "stop", "where")


def published_beside(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each published figure that was measured on the same model in the same settings.

    Args:
        settings: Of a benchmark of a run, as ``settings.json`` holds them.
    """
    name = settings["benchmark"]
    benchmark = BENCHMARKS.get(name)
    whole = benchmark and settings["num_problems"] == benchmark.num_problems and settings["num_samples"] == benchmark.k
    if not whole or any(key in settings for key in _OTHERWISE_UNSET):
        return
    for (source, model), belongs in BELONGS.items():
        same_model = Path(settings["model"]).name.lower() == model.lower()
        percent = PUBLISHED.get(name, {}).get(source, {}).get(model)
        if same_model and percent is not None and all(settings.get(key) == value for key, value in belongs.items()):
            yield f"{name}: {percent:.1f} is published for {model} in these settings ({source})"


def describe(benchmark: Benchmark) -> Iterator[str]:
    """Yield the lines that tell everything about a benchmark, what was published for it included."""
    question, reference = benchmark.columns
    yield f"{benchmark.name}: {benchmark.num_problems} problems, {benchmark.k} completions each"
    yield f"Hub data set: {benchmark.hub_id}, split {benchmark.split}, revision {benchmark.revision}"
    yield f"columns: {question} (question), {reference} (reference)"
    yield f"local copy: {benchmark.stem}.jsonl or {benchmark.stem}_{benchmark.split}.jsonl in --data-dir"
    yield f"checksum of the checked copy: {benchmark.checksum or 'none, no copy was at hand'}"
    if benchmark.note:
        yield f"note: {benchmark.note}"
    for source, percents in PUBLISHED.get(benchmark.name, {}).items():
        yield f"\npublished mean@{benchmark.k} in percent, {source}:"
        for model, percent in percents.items():
            yield f"  {model:<22}{percent:5.1f}"
