"""Arguments that several ``polaris-data`` commands share."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, get_origin

import typer

from polaris_data.problems.source import Source
from polaris_data.records import PROMPT_SUFFIX

ProblemsArgument = typer.Argument(
    metavar="PROBLEMS",
    help="A .jsonl, .json, .csv, .tsv or .parquet file, a folder or Hub id that datasets can load "
    "(OWNER/NAME[:CONFIG]), 'synthetic' or 'synthetic:held-out'.",
    show_default=False,
)
Limit = Annotated[int | None, typer.Option(min=1, help="Take the first N rows only.", metavar="N")]
SkipInvalid = Annotated[
    bool,
    typer.Option(
        "--skip-invalid", help="Set rows without a question or answer, or with a repeated id, aside with a warning."
    ),
]
DataSplit = Annotated[str, typer.Option(help="Split of a folder or Hub data set.")]
Revision = Annotated[str | None, typer.Option(help="Commit, branch or tag of a Hub data set.")]
Suffix = Annotated[
    str,
    typer.Option(
        help=f"Appended to every question, the same as in training.  [default: {PROMPT_SUFFIX!r}]", show_default=False
    ),
]
Processes = Annotated[int | None, typer.Option(min=1, help="Processes.  [default: one a processor]")]

_OPTIONS: dict[str, Any] = {"limit": Limit, "skip_invalid": SkipInvalid, "split": DataSplit, "revision": Revision}


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command with a parameter ``problems: Source`` the argument PROBLEMS and the options of a `Source`.

    The annotation ``Annotated[Source, typer.Argument(...)]`` describes the argument in other words.
    """
    keyword = inspect.Parameter.KEYWORD_ONLY
    given = inspect.signature(command).parameters.items()
    parameters = {name: parameter.replace(kind=keyword) for name, parameter in given}
    described = parameters["problems"].annotation
    argument = described.__metadata__[0] if get_origin(described) is Annotated else ProblemsArgument
    parameters["problems"] = parameters["problems"].replace(annotation=Annotated[str, argument])
    defaults = {field.name: field.default for field in fields(Source)}
    for name, annotation in _OPTIONS.items():
        parameters[name] = inspect.Parameter(name, keyword, default=defaults[name], annotation=annotation)

    @wraps(command)
    def run(**arguments: Any) -> None:
        options = {name: arguments.pop(name) for name in _OPTIONS}
        command(problems=Source(arguments.pop("problems"), **options), **arguments)

    # Typer reads the signature, and of it the annotations from here.
    run.__signature__ = inspect.Signature(list(parameters.values()))  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return run
