"""The options that every command with an engine has, declared once."""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from polaris_rollout.contracts import EngineSpec
from polaris_rollout.devices import visible_devices
from polaris_rollout.errors import SettingError
from polaris_rollout.records import ChatFormat

Command = Callable[..., None]


def engine_options(
    *,
    demo_model: bool = True,
    least_context: int | None = 2,
    yarn_factor: bool = False,
    extend_positions: bool = False,
    prompts: bool = False,
    text_only: bool = False,
) -> Callable[[Command], Command]:
    """Give a command, in place of its parameter ``engine``, the options that an `EngineSpec` is made from.

    Args:
        demo_model: Whether ``tiny`` is the default model; else the model's name is empty where none is given.
        least_context: Refused as a usage error below it; ``None`` leaves that to `check_model`.
        yarn_factor: Whether there is an option for it.
        extend_positions: Whether there is an option for it.
        prompts: Whether there are options for what stands around a question: of commands that record it.
        text_only: Whether servers may give nothing but texts.
    """

    def options(
        model: Annotated[
            str | None,
            typer.Option(
                help="A model folder, a Hub id, or a name that an installed package carries.  [default: tiny, which "
                "polaris-train carries]",
                show_default=False,
            ),
        ] = "tiny",
        context: Annotated[
            int | None,
            typer.Option(
                min=least_context,
                help="Prompt and answer together, in tokens; more than the model has derives YaRN.  [default: the "
                "model's]",
                show_default=False,
            ),
        ] = None,
        yarn_factor: Annotated[
            float | None,
            typer.Option(
                help="Use YaRN with this factor, for any context.  [default: derived where the context needs it]",
                show_default=False,
            ),
        ] = None,
        extend_positions: Annotated[
            bool,
            typer.Option(
                "--extend-positions",
                help="Beyond the model's positions leave its rotary frequencies as they are, as a recipe with "
                "extend_positions trains; no YaRN.",
            ),
        ] = False,
        endpoint: Annotated[
            list[str] | None,
            typer.Option(
                help="Address of a running `vllm serve`, or a file of addresses, one a line, which may change; "
                "repeat it for several.  [default: vLLM in here]",
                show_default=False,
            ),
        ] = None,
        text_only: Annotated[
            bool,
            typer.Option(
                "--text-only",
                help="The endpoints are any OpenAI-compatible servers: take their texts, without tokens and "
                "comparisons; the key is $VLLM_API_KEY.  [default: found out by asking]",
            ),
        ] = False,
        system_prompt: Annotated[
            str, typer.Option(help="System turn before every question; it changes scores, so it is recorded.")
        ] = "",
        chat_template_kwargs: Annotated[
            str,
            typer.Option(
                metavar="JSON",
                help="Arguments of the chat template, such as '{\"enable_thinking\": false}'; one that the template "
                "does not mention is refused.",
            ),
        ] = "{}",
        chat_template: Annotated[
            bool, typer.Option(help="Put the chat template around the question; a base model is asked without.")
        ] = True,
        tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs that share one copy of the model in here.")] = 1,
        data_parallel: Annotated[
            int | None,
            typer.Option(
                min=1,
                help="Copies of the model side by side, each in its own process on its own GPUs; faster, same answers."
                "  [default: as many as the GPUs have room for]",
                show_default=False,
            ),
        ] = None,
        engine_option: Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME=VALUE",
                help="Any option of vLLM for the engine in here, such as kv_cache_dtype=fp8 or "
                "gpu_memory_utilization=0.6; repeatable. Those that can change an answer are recorded with it.",
                show_default=False,
            ),
        ] = None,
        stall_limit: Annotated[
            float, typer.Option(min=1, help="Seconds without a new token until the job is ended with exit code 75.")
        ] = 1800.0,
        canary: Annotated[
            bool, typer.Option(help="Compare the engine's log-probabilities with those of transformers first.")
        ] = True,
    ) -> EngineSpec:
        _check_together(
            bool(endpoint),
            tensor_parallel=tensor_parallel,
            data_parallel=data_parallel,
            text_only=text_only,
            yarn_factor=yarn_factor,
            extend_positions=extend_positions,
        )
        options = parse_engine_options(engine_option or [])
        if endpoint and options:
            raise SettingError("--engine-option is for the engine in this process; start the servers with it instead")
        return EngineSpec(
            model or "",
            context=context,
            yarn_factor=yarn_factor,
            extend_positions=extend_positions,
            endpoints=tuple(endpoint or ()),
            text_only=text_only,
            chat=ChatFormat(
                system_prompt=system_prompt,
                arguments=parse_arguments(chat_template_kwargs),
                is_plain=not chat_template,
            ),
            tensor_parallel=tensor_parallel,
            data_parallel=data_parallel or (1 if endpoint else _copies(tensor_parallel)),
            stall_limit_s=stall_limit,
            canary=canary,
            options=options,
        )

    defaults = {} if demo_model else {"model": None}
    shown = {
        "yarn_factor": yarn_factor,
        "extend_positions": extend_positions,
        "text_only": text_only,
        **dict.fromkeys(("system_prompt", "chat_template_kwargs", "chat_template"), prompts),
    }
    hidden = tuple(name for name, is_shown in shown.items() if not is_shown)
    return lambda command: _expanded(command, "engine", options, defaults=defaults, without=hidden)


def _check_together(
    has_endpoint: bool,
    *,
    tensor_parallel: int,
    data_parallel: int | None,
    text_only: bool,
    yarn_factor: float | None,
    extend_positions: bool,
) -> None:
    """Refuse options that say how an engine in here is started beside servers, and the other way round."""
    if has_endpoint and tensor_parallel > 1:
        raise SettingError("--tensor-parallel is for the engine in this process; start the servers with it instead")
    if has_endpoint and data_parallel is not None and data_parallel > 1:
        raise SettingError("--data-parallel is for engines on this machine; give several --endpoint instead")
    if text_only and not has_endpoint:
        raise SettingError("--text-only says what the servers are; give their addresses with --endpoint")
    if has_endpoint and yarn_factor is not None:
        raise SettingError("--yarn-factor is for the engine in this process; start the servers with rope_parameters")
    if has_endpoint and extend_positions:
        raise SettingError(
            "--extend-positions is for the engine in this process; start the servers with max_position_embeddings"
        )


def _copies(tensor_parallel: int) -> int:
    """Return how many copies of the model the GPUs have room for, and say so if there are several."""
    num_gpus = len(visible_devices())
    copies = max(1, num_gpus // tensor_parallel)
    if copies > 1:
        print(f"{num_gpus} GPUs: {copies} engines side by side (--data-parallel {copies})", file=sys.stderr)
    return copies


def parse_arguments(text: str) -> dict[str, Any]:
    """Read the arguments of a chat template.

    Raises:
        SettingError: If the text is no JSON object.
    """
    try:
        arguments = json.loads(text)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise SettingError(
            f"--chat-template-kwargs is {text!r}; give a JSON object such as '{{\"enable_thinking\": false}}'"
        )
    return arguments


def parse_engine_options(given: Sequence[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` options of vLLM; a value is JSON, or else text.

    Raises:
        SettingError: If one has another form, is given twice, or vLLM does not know it.
    """
    from polaris_rollout.engines.options import check_engine_options

    options: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not equals or not name:
            raise SettingError(f"--engine-option {each!r}: write it as name=value, such as kv_cache_dtype=fp8")
        if name in options:
            raise SettingError(f"--engine-option {name!r} is given twice, as {options[name]!r} and {text!r}; give one")
        try:
            options[name] = json.loads(text)
        except ValueError:
            options[name] = text
    check_engine_options(options)
    return options


def _expanded(
    command: Command, name: str, build: Callable[..., Any], *, defaults: Mapping[str, Any], without: tuple[str, ...]
) -> Command:
    """Replace one parameter of a command by those of the function that builds its value."""
    own = [
        each.replace(default=defaults.get(each.name, each.default), kind=inspect.Parameter.KEYWORD_ONLY)
        for each in inspect.signature(build).parameters.values()
        if each.name not in without
    ]
    given = inspect.signature(command).parameters.values()
    parameters = [
        new
        for each in given
        for new in (own if each.name == name else [each.replace(kind=inspect.Parameter.KEYWORD_ONLY)])
    ]

    @functools.wraps(command)
    def expanded(**values: Any) -> None:
        built = build(**{each.name: values.pop(each.name) for each in own})
        command(**values, **{name: built})

    signature = inspect.Signature(parameters)
    expanded.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
    expanded.__annotations__ = {each.name: each.annotation for each in parameters}
    return expanded
