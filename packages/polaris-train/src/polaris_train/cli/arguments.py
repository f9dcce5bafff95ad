"""Arguments that several commands have."""

from typing import Annotated

import typer

RecipeArgument = Annotated[
    str, typer.Argument(help="A recipe's TOML file, or a packaged recipe: see 'polaris-train show'.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one value, e.g. --set stages.0.temperature=1.2; repeatable."),
]
