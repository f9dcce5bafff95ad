"""The command ``polaris-data synthetic``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from polaris_data.errors import OtherRunError


def synthetic_command(
    num: Annotated[int, typer.Option(min=1, help="Problems to generate.")] = 500,
    seed: Annotated[int, typer.Option(help="Another seed gives other problems.")] = 0,
    split: Annotated[
        Literal["train", "held-out"], typer.Option(help="The splits share no problem, whatever the seeds.")
    ] = "train",
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File to write.  [default: stdout]", show_default=False)
    ] = None,
) -> None:
    """Generate arithmetic problems of eight levels with worked solutions.

    Writes one JSON object a line to --out, or to stdout.

    \b
    Example:
      polaris-data synthetic --num 1000 --split held-out --out held-out.jsonl
    """
    from polaris_data.journal import write_text
    from polaris_data.problems import to_json_lines
    from polaris_data.synthetic import synthetic_problems

    text = to_json_lines(synthetic_problems(num, seed=seed, split=split))
    if out is None:
        print(text, end="")
        return
    if out.exists() and out.read_bytes() != text.encode():
        raise OtherRunError(f"{out} holds something else; choose another --out or remove it")
    write_text(out, text)
    print(f"wrote {out}")
