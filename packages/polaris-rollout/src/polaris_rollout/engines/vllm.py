"""Sampling with vLLM inside this process; the only module that imports vllm.

The engine runs in the process itself, which starts it six times faster than a child process would, lets a
trainer hand it weights directly, and needs no ``__main__`` guard.
"""

import gc
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice
from types import TracebackType
from typing import Any, Self, cast

# Read by vLLM when it is imported, therefore set here; otherwise a user's own setting wins.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
# Splitting one attention over threads makes its rounding depend on what else is in the batch.
os.environ.setdefault("VLLM_CPU_ATTN_SPLIT_KV", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
# vLLM warns about the platform before it has read its own logging level.
logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")

from polaris_rollout.contracts import EngineSpec, EngineStatus
from polaris_rollout.digest import model_digest
from polaris_rollout.engines.options import answers_within, check_engine_options, vllm_options
from polaris_rollout.errors import EngineMissingError, SettingError
from polaris_rollout.models import (
    PREFILLED_TOKENS,
    check_chat,
    check_lengths,
    encode_prompt,
    model_config,
    prefilled_think,
    resolve_model,
    stop_token_ids,
    text_config,
)
from polaris_rollout.records import Completion, Group, Prompt, SamplingParams, completion_seed, cut_at_stop, distinct
from polaris_rollout.transfer.files import with_tied_head

try:
    import vllm
except ImportError as error:
    raise EngineMissingError(
        "no sampling engine is installed: pip install 'polaris-rollout[gpu]' (CUDA) or "
        f"'polaris-rollout[cpu]' ({error})"
    ) from error

import torch
from vllm.inputs import TokensPrompt
from vllm.logprobs import FlatLogprobs
from vllm.outputs import CompletionOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.request import RequestStatus

logger = logging.getLogger(__name__)


class VllmSampler:
    """One vLLM engine in this process; an `Engine` and a `WeightSink`.

    Attributes:
        max_in_flight: Completions that the engine works on at the same time.
        tokenizer: The model's tokenizer.
    """

    def __init__(self, model: str | EngineSpec, *, per_rank: bool = False, **fields: Any) -> None:
        """Load a model into a new engine.

        Args:
            model: A folder, a Hub id, or a carried name; see `resolve_model`. Or everything that an engine is opened
                with.
            per_rank: One engine for each process of a ``torchrun`` launch, or for each ``tensor_parallel``
                neighbouring ones, which must then make the same calls. The process group exists already. Otherwise
                an engine with ``tensor_parallel`` starts processes of its own, so the program needs a ``__main__``
                guard.
            fields: The other fields of an `EngineSpec`, for a model that is given by its name.

        Raises:
            ModelError: If the model cannot be used with this context.
            SettingError: If the ranks cannot be shared out, there is no process group, or vLLM refuses an option.
        """
        # vLLM would make a process group of its own, of as many ranks as one engine has.
        if per_rank and not torch.distributed.is_initialized():
            raise SettingError(
                "per_rank needs the ranks' process group; call torch.distributed.init_process_group first"
            )
        spec = EngineSpec(model, **fields) if isinstance(model, str) else replace(model, **fields)
        check_engine_options(spec.options)
        folder = resolve_model(spec.model)
        options = vllm_options(model_config(folder), spec, per_rank=per_rank, on_cpu=current_platform.is_cpu())
        if rope := text_config(options.get("hf_overrides", {})).get("rope_parameters"):
            longest = options["max_model_len"]
            logger.warning("%s: YaRN with factor %.4g for a context of %d tokens", spec.model, rope["factor"], longest)
        self._request_ids = count()
        self._can_sleep = not current_platform.is_cpu()
        self._shares_weights = per_rank or spec.tensor_parallel == 1
        self._name = f"rank {os.environ['RANK']}" if per_rank else "engine"
        self._weights = self._weights_version = model_digest(folder) or spec.model
        self._num_updates = self._num_sampled = 0
        self._is_whole = True
        self._llm = _start(folder, options, chosen=spec.options)
        self._context: int = self._llm.model_config.max_model_len
        self.max_in_flight = min(options["max_num_seqs"], answers_within(_cache_tokens(self._llm), self._context))
        self._dtype = str(self._llm.model_config.dtype).removeprefix("torch.")
        self.tokenizer: Any = self._llm.get_tokenizer()
        self._stop_token_ids = stop_token_ids(folder)
        self._chat = spec.chat
        check_chat(spec.model, self.tokenizer.chat_template, spec.chat)
        if self.tokenizer.chat_template is None and not spec.chat.is_plain:
            logger.warning("%s has no chat template: problems are given to it as plain text", spec.model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the engine and free its memory; of a ``torchrun`` launch it leaves the process group."""
        if hasattr(self, "_llm"):
            self._llm.llm_engine.engine_core.shutdown()
            del self._llm
            gc.collect()

    @property
    def context(self) -> int:
        """Longest prompt and completion together, in tokens."""
        return self._context

    @property
    def dtype(self) -> str:
        """Precision that the engine computes in, such as ``float32``."""
        return self._dtype

    @property
    def weights_version(self) -> str:
        """Fingerprint of the model's files or its Hub id; ``+3`` after the third update."""
        return self._weights_version

    def status(self) -> list[EngineStatus]:
        """Say what the engine is doing; callable from another thread while it samples, at any moment."""
        llm = getattr(self, "_llm", None)
        # Copied in one go under the interpreter's lock: the engine changes it between steps.
        requests = [] if llm is None else list(llm.llm_engine.engine_core.engine_core.scheduler.requests.values())
        lengths = [request.num_output_tokens for request in requests]
        running = sum(request.status == RequestStatus.RUNNING for request in requests)
        return [
            EngineStatus(
                name=self._name,
                state="closed" if llm is None else "sampling" if requests else "idle",
                running=running,
                waiting=len(requests) - running,
                longest_running=max(lengths, default=0),
                sampled_tokens=self._num_sampled + sum(lengths),
            )
        ]

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the prompt that the model sees for a user turn, chat template included."""
        return encode_prompt(self.tokenizer, text, self._chat)

    def check_prompts(self, prompts: Sequence[Prompt], max_tokens: int | None = None) -> None:
        """Refuse prompts that leave no room for an answer: for ``max_tokens``, or for one token.

        Raises:
            PromptTooLongError: Naming the prompts, their lengths, and the context they need.
        """
        lengths = {prompt.problem_id: len(self.encode(prompt.text)) for prompt in prompts}
        check_lengths(lengths, context=self.context, max_tokens=max_tokens)

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        """Yield a group of ``n`` completions for each prompt, as groups finish; see `Sampler.sample`.

        At temperature 0 the log-probabilities are those at temperature 1.

        Raises:
            ValueError: If ``n`` is not positive.
            RuntimeError: If an earlier request is still going on, the engine is asleep or was not wholly woken, or an
                update of its weights was broken off.
            PromptTooLongError: If a prompt leaves no room for an answer.
        """
        if n < 1:
            raise ValueError(f"n is {n}; give 1 or more samples")
        self._require_idle()
        self._require_whole()
        if self._is_sleeping:  # vLLM would take the request and wait for ever.
            raise RuntimeError("the engine is asleep: call wake() and then update_weights() first")
        engine = self._llm.llm_engine
        requests = self._requests(prompts, params, n)
        in_flight: dict[str, tuple[_OpenGroup, int]] = {}
        try:
            while True:
                for group, index, prompt, request_params in islice(requests, self.max_in_flight - len(in_flight)):
                    request_id = str(next(self._request_ids))
                    engine.add_request(request_id, prompt, request_params)
                    in_flight[request_id] = (group, index)
                if not in_flight:
                    return
                for output in cast(list[vllm.RequestOutput], engine.step()):
                    group, index = in_flight.pop(output.request_id)
                    completion = self._completion(output.outputs[0], params.stop)
                    self._num_sampled += len(completion.token_ids)
                    group.completions[index] = completion
                    if len(group.completions) == n:
                        yield group.close(self._weights_version)
        finally:
            # The caller may have stopped early: the engine must be empty for the next call.
            self._num_sampled = self.status()[0].sampled_tokens
            engine.abort_request(list(in_flight))

    def update_weights(self, weights: Iterable[tuple[str, torch.Tensor]], *, version: str | None = None) -> None:
        """Replace the model's weights in place and forget what was computed with the old ones.

        After `wake`, the memory for what is computed with them is taken only now, when the caller's are not needed.

        Args:
            weights: Names as in the model's ``named_parameters``, and whole tensors; one at a time.
            version: Name of these weights; ``None`` counts updates.

        Raises:
            SettingError: If the engine's processes are not those of a ``torchrun`` launch.
            RuntimeError: If an earlier request is still going on, or an earlier update was broken off.
        """
        if not self._shares_weights:
            raise SettingError(
                "an engine with tensor parallel processes of its own takes no new weights; start the program with "
                "torchrun and give per_rank=True"
            )
        self._require_idle()
        tied = self._llm.model_config.hf_text_config.tie_word_embeddings
        weights = with_tied_head(weights) if tied else iter(weights)
        self._require_whole()
        self._is_whole = False
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        self._is_whole = True
        if self._is_sleeping:
            self._llm.wake_up(tags=["kv_cache"])
        self._llm.reset_prefix_cache()
        self._num_updates += 1
        self._weights_version = f"{self._weights}+{self._num_updates}" if version is None else version

    def sleep(self) -> None:
        """Free the engine's device memory until `wake`; does nothing where the platform has no sleep mode."""
        if self._can_sleep:
            self._llm.sleep(level=2)

    def wake(self) -> None:
        """Take the memory of the weights back after `sleep`; they must be updated before sampling."""
        if self._is_sleeping:
            self._llm.wake_up(tags=["weights"])

    @property
    def _is_sleeping(self) -> bool:
        return self._can_sleep and self._llm.llm_engine.is_sleeping()

    def _require_whole(self) -> None:
        # vLLM 0.32 counts what it has loaded of each layer and goes on counting in the next update.
        if not self._is_whole:
            raise RuntimeError("an update of the weights was broken off half-way: close this engine and open another")

    def _require_idle(self) -> None:
        if self._llm.llm_engine.has_unfinished_requests():
            raise RuntimeError("an earlier sample() is still going on: read it to its end or close it first")

    def _requests(
        self, prompts: Iterable[Prompt], params: SamplingParams, n: int
    ) -> Iterator[tuple["_OpenGroup", int, TokensPrompt, vllm.SamplingParams]]:
        """Yield one request for each completion, opening the group of each prompt as it is drawn."""
        text, token_ids, prefilled = None, (), ""
        for prompt in distinct(prompts):
            if prompt.text != text:  # An evaluation asks the same many times in a row, each as a prompt of its own.
                text, token_ids = prompt.text, self.encode(prompt.text)
                # Decoded as completions are: where the tags are special tokens, these show no closing one either.
                end = self.tokenizer.decode(token_ids[-PREFILLED_TOKENS:], skip_special_tokens=True)
                prefilled = prefilled_think(end)
            room = self.context - len(token_ids)
            if room < 1:
                self.check_prompts([prompt])
            group = _OpenGroup(prompt.problem_id, token_ids, prefilled)
            for index in range(n):
                yield (
                    group,
                    index,
                    TokensPrompt(prompt_token_ids=list(token_ids)),
                    vllm.SamplingParams(
                        temperature=params.temperature,
                        top_p=params.top_p,
                        top_k=params.top_k,
                        max_tokens=min(room, params.max_tokens or room),
                        min_p=params.min_p,
                        seed=completion_seed(params.seed, prompt.problem_id, prompt.first_sample + index),
                        stop_token_ids=self._stop_token_ids,
                        stop=list(params.stop),
                        logprobs=0,
                        flat_logprobs=True,
                        detokenize=bool(params.stop),
                        output_kind=RequestOutputKind.FINAL_ONLY,
                        skip_clone=True,
                    ),
                )

    def _completion(self, output: CompletionOutput, stop: Sequence[str]) -> Completion:
        logprobs = output.logprobs
        if not isinstance(logprobs, FlatLogprobs) or output.finish_reason not in ("stop", "length"):
            raise RuntimeError(f"the engine ended a completion with {output.finish_reason!r}")
        token_ids = tuple(output.token_ids)
        return Completion(
            token_ids=token_ids,
            logprobs=tuple(logprobs.logprobs),
            text=cut_at_stop(self.tokenizer.decode(token_ids, skip_special_tokens=True), stop),
            finish_reason=output.finish_reason,
        )


def _start(folder: str, options: Mapping[str, Any], *, chosen: Mapping[str, Any]) -> vllm.LLM:
    try:
        return vllm.LLM(model=folder, **options)
    except (TypeError, ValueError) as error:
        if not chosen:
            raise
        raise SettingError(f"vLLM refuses the engine options {dict(chosen)}: {' '.join(str(error).split())}") from error


def _cache_tokens(llm: vllm.LLM) -> int:
    """Return how many tokens of all answers together an engine holds the keys and values of."""
    tokens = llm.llm_engine.vllm_config.cache_config.kv_cache_size_tokens
    assert tokens is not None, "the engine has started"
    return tokens


def require_devices(num: int) -> None:
    """Refuse to open an engine on fewer GPUs than its copy of the model is to lie on; a CPU has no such number.

    Raises:
        SettingError: Naming how many there are.
    """
    if not current_platform.is_cpu() and (found := torch.cuda.device_count()) < num:
        raise SettingError(
            f"an engine needs {num} GPUs of its own and {found} of {os.environ.get('CUDA_VISIBLE_DEVICES')!r} are "
            "there; lower --data-parallel or --tensor-parallel"
        )


@dataclass(slots=True)
class _OpenGroup:
    """A group some of whose completions are still being sampled."""

    problem_id: str
    prompt_token_ids: tuple[int, ...]
    prefilled: str
    completions: dict[int, Completion] = field(default_factory=dict[int, Completion])

    def close(self, weights_version: str) -> Group:
        return Group(
            problem_id=self.problem_id,
            prompt_token_ids=self.prompt_token_ids,
            completions=tuple(self.completions[index] for index in range(len(self.completions))),
            weights_version=weights_version,
            prefilled=self.prefilled,
        )
