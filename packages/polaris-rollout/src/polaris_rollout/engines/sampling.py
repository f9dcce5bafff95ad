"""Sampling a file of prompts into a store."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, quantiles

from polaris_rollout.contracts import EngineSpec
from polaris_rollout.engines.opening import check_model, open_engine
from polaris_rollout.engines.watchdog import watch
from polaris_rollout.progress import track
from polaris_rollout.records import SamplingParams
from polaris_rollout.store.folder import RolloutStore, store_parts
from polaris_rollout.store.resume import read_prompts, sample_missing
from polaris_rollout.store.table import count_tokens, read_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What a folder holds after sampling, and how fast it went."""

    num_groups: int
    """Of all runs."""

    num_before: int
    """Of earlier runs."""

    lengths: list[int]
    """Tokens of each completion."""

    truncated_share: float
    """Of the completions: ended by the token budget."""

    tokens_per_s: float | None
    """Of this run, the start of the engine not counted; ``None`` where it drew nothing."""

    def __str__(self) -> str:
        """Say it in two lines."""
        most = quantiles(self.lengths, n=20)[-1] if len(self.lengths) > 1 else self.lengths[0]
        speed = "" if self.tokens_per_s is None else f"; {self.tokens_per_s:,.0f} tokens/s"
        return (
            f"{self.num_groups} groups, {self.num_before} of them from before, with {len(self.lengths):,} completions\n"
            f"{self.truncated_share:.1%} truncated; tokens: mean {fmean(self.lengths):,.0f}, median "
            f"{median(self.lengths):,.0f}, 95% within {most:,.0f}, longest {max(self.lengths):,}{speed}"
        )


def sample_file(
    prompts: Path, out: Path, spec: EngineSpec, params: SamplingParams, *, num_samples: int, suffix: str = ""
) -> Sampled:
    """Sample every prompt of a file that a folder does not hold yet; no engine is opened where there is none.

    Args:
        prompts: As `read_prompts` takes them.
        out: Folder of a `RolloutStore`; claimed for the model, the parameters and all else that changes what is drawn.
        spec: The engine.
        params: How completions are drawn.
        num_samples: Completions of each prompt.
        suffix: Appended to every prompt.

    Raises:
        RolloutError: If the prompts, the folder, the model or the engine cannot be used.
    """
    wanted = read_prompts(prompts, suffix=suffix)
    settings = params.settings() | {
        "model": spec.model,
        "model_digest": check_model(spec),
        "samples": num_samples,
        "context": spec.context,
        "suffix": suffix,
        **spec.chat.settings(),
        **spec.option_settings(),
    }
    with RolloutStore(out, settings) as store:
        missing = [prompt for prompt in wanted if prompt.problem_id not in store.finished]
        num_before = len(wanted) - len(missing)
        new, seconds = 0, 0.0
        if missing:
            with open_engine(spec) as engine:
                began = time.monotonic()
                engine.check_prompts(missing, params.max_tokens)
                groups = sample_missing(store, missing, engine, params, num_samples=num_samples)
                with watch(engine, stall_limit_s=spec.stall_limit_s):
                    for group in track(groups, total=len(wanted), done=num_before, engine=engine):
                        new += sum(len(each.token_ids) for each in group.completions)
                seconds = time.monotonic() - began
    parts = store_parts(out)
    reasons = [reason for part in parts for reason in read_columns(part, ["finish_reason"])["finish_reason"]]
    return Sampled(
        num_groups=len(wanted),
        num_before=num_before,
        lengths=[length for part in parts for length in count_tokens(part)],
        truncated_share=reasons.count("length") / len(reasons),
        tokens_per_s=new / seconds if seconds else None,
    )
