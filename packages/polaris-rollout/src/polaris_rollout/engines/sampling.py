"""Sampling a file of prompts into a store."""

from dataclasses import asdict
from pathlib import Path

from polaris_rollout.engines.opening import check_model, open_engine
from polaris_rollout.engines.watchdog import watch
from polaris_rollout.progress import track
from polaris_rollout.records import EngineSpec, SamplingParams
from polaris_rollout.store.folder import RolloutStore
from polaris_rollout.store.resume import read_prompts, sample_missing


def sample_file(
    prompts: Path, out: Path, spec: EngineSpec, params: SamplingParams, *, num_samples: int, suffix: str = ""
) -> tuple[int, int]:
    """Sample every prompt of a file that a folder does not hold yet; no engine is opened where there is none.

    Args:
        prompts: As `read_prompts` takes them.
        out: Folder of a `RolloutStore`; claimed for the model, the parameters and all else that changes what is drawn.
        spec: The engine.
        params: How completions are drawn.
        num_samples: Completions of each prompt.
        suffix: Appended to every prompt.

    Returns:
        The number of groups that the folder holds, and how many of them it held before.

    Raises:
        RolloutError: If the prompts, the folder, the model or the engine cannot be used.
    """
    wanted = read_prompts(prompts, suffix=suffix)
    settings = asdict(params) | {
        "model": spec.model,
        "model_digest": check_model(spec),
        "samples": num_samples,
        "context": spec.context,
        "suffix": suffix,
    }
    with RolloutStore(out, settings) as store:
        missing = [prompt for prompt in wanted if prompt.problem_id not in store.finished]
        num_before = len(wanted) - len(missing)
        if missing:
            with open_engine(spec) as engine:
                engine.check_prompts(missing, params.max_tokens)
                groups = sample_missing(store, missing, engine, params, num_samples=num_samples)
                with watch(engine, stall_limit_s=spec.stall_limit_s):
                    for _ in track(groups, total=len(wanted), done=num_before, engine=engine):
                        pass
    return len(wanted), num_before
