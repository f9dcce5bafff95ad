"""The options that every command with an engine has, declared once."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from polaris_rollout.errors import SettingError
from polaris_rollout.records import EngineSpec

Command = Callable[..., None]


def engine_options(
    *,
    demo_model: bool = True,
    least_context: int | None = 2,
    yarn_factor: bool = False,
    extend_positions: bool = False,
) -> Callable[[Command], Command]:
    """Give a command, in place of its parameter ``engine``, the options that an `EngineSpec` is made from.

    Args:
        demo_model: Whether ``tiny`` is the default model; else the model's name is empty where none is given.
        least_context: Refused as a usage error below it; ``None`` leaves that to `check_model`.
        yarn_factor: Whether there is an option for it.
        extend_positions: Whether there is an option for it.
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
                help="Address of a running `vllm serve`; repeat it for several.  [default: vLLM in here]",
                show_default=False,
            ),
        ] = None,
        tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs that share one copy of the model in here.")] = 1,
        stall_limit: Annotated[
            float, typer.Option(min=1, help="Seconds without a new token until the job is ended with exit code 75.")
        ] = 1800.0,
        canary: Annotated[
            bool, typer.Option(help="Compare the engine's log-probabilities with those of transformers first.")
        ] = True,
    ) -> EngineSpec:
        if endpoint and tensor_parallel > 1:
            raise SettingError("--tensor-parallel is for the engine in this process; start the servers with it instead")
        if endpoint and yarn_factor is not None:
            raise SettingError(
                "--yarn-factor is for the engine in this process; start the servers with rope_parameters"
            )
        if endpoint and extend_positions:
            raise SettingError(
                "--extend-positions is for the engine in this process; start the servers with max_position_embeddings"
            )
        return EngineSpec(
            model or "",
            context=context,
            yarn_factor=yarn_factor,
            extend_positions=extend_positions,
            endpoints=tuple(endpoint or ()),
            tensor_parallel=tensor_parallel,
            stall_limit_s=stall_limit,
            canary=canary,
        )

    defaults = {} if demo_model else {"model": None}
    optional = {"yarn_factor": yarn_factor, "extend_positions": extend_positions}
    hidden = tuple(name for name, shown in optional.items() if not shown)
    return lambda command: _expanded(command, "engine", options, defaults=defaults, without=hidden)


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
