"""The command ``polaris-data dedup``.

The command ``polaris-data decontaminate``.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polaris_data.cli.options import DataSplit, Limit, ProblemsArgument, Revision, SkipInvalid, iterate, read
from polaris_data.errors import SettingError

if TYPE_CHECKING:
    from polaris_data.records import Problem


def dedup_command(
    problems: ProblemsArgument,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder to write.", metavar="DIR", show_default=False)],
    prefer: Annotated[
        str,
        typer.Option(help="Sources to keep a problem of, the best first.", metavar="SOURCE,...", show_default=False),
    ] = "",
    drop_conflicts: Annotated[
        bool, typer.Option("--drop-conflicts", help="Keep no problem whose copies have different answers.")
    ] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Compare sentence embeddings too (extra 'embeddings'; slow).")
    ] = False,
    embedding_model: Annotated[
        str, typer.Option(help="Name on the Hub or folder of the embedding model.", metavar="MODEL")
    ] = "sentence-transformers/all-MiniLM-L6-v2",
    min_cosine: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Embeddings closer than that are the same.")
    ] = 0.9,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes.  [default: one a processor]")] = None,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Keep one problem of each cluster of duplicates.

    Reads PROBLEMS and compares their wording, without typesetting: equal texts, and the same problem in other words
    (changed numbers, operators or unknowns make another problem). Writes DIR/problems.jsonl (what is kept),
    DIR/clusters.jsonl (the members of each cluster, which one is kept and why, whether their answers conflict) and
    DIR/counts.json.

    \b
    Example:
      polaris-data dedup train.jsonl --prefer aime,deepscaler --out deduplicated
    """
    from polaris_data.duplicates.dedup import stream_duplicates, write_deduplicated
    from polaris_data.files.journal import check_output, claim_output
    from polaris_data.files.lock import locked_output
    from polaris_data.files.processes import num_usable_processors
    from polaris_data.problems.rows import count_rows, fingerprint

    settings = {
        "command": "polaris-data dedup",
        "problems": fingerprint(problems, split=split, revision=revision),
        "limit": limit,
        "skip_invalid": skip_invalid,
        "prefer": prefer,
        "drop_conflicts": drop_conflicts,
        "embeddings": {"model": embedding_model, "min_cosine": min_cosine} if embeddings else None,
    }
    kept = out / "problems.jsonl"

    def read() -> "Iterator[Problem]":
        return iterate(problems, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision)

    def close(questions: Sequence[str]) -> "Iterator[tuple[int, int, float]]":
        from polaris_data.duplicates.minhash import close_pairs, embed

        return close_pairs(embed(questions, model=embedding_model), min_cosine=min_cosine)

    with locked_output(kept):
        check_output(kept, settings)
        clusters = stream_duplicates(
            read,
            prefer=[source.strip() for source in prefer.split(",") if source.strip()],
            similar=close if embeddings else None,
            num_processes=processes or num_usable_processors(),
            total=limit or count_rows(problems),
        )
        claim_output(kept, settings)
        counts = write_deduplicated(out, read(), clusters, drop_conflicts=drop_conflicts)
    for reason, count in counts.items():
        if count or reason == "kept":
            print(f"{count:>9,}  {reason}")
    num_conflicts = sum(cluster.conflict for cluster in clusters)
    print(f"{len(clusters):,} clusters, {num_conflicts:,} of them with conflicting answers")
    print(f"\nwrote {kept} and {out / 'clusters.jsonl'}")


def decontaminate_command(
    problems: ProblemsArgument,
    against: Annotated[
        list[str],
        typer.Option(help="A benchmark: whatever PROBLEMS may be. Repeat it.", metavar="BENCH", show_default=False),
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder to write.", metavar="DIR", show_default=False)],
    drop_shared_passages: Annotated[
        bool,
        typer.Option("--drop-shared-passages", help="Drop other problems that share 13 tokens in a row, too."),
    ] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes.  [default: one a processor]")] = None,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Drop the problems that are in a benchmark.

    Reads PROBLEMS and every BENCH. Problems with equal text, the same mathematics in other words, or a benchmark
    problem inside them are dropped; problems that share a passage of 13 tokens but are others are reported. Writes
    DIR/problems.jsonl (what is kept), DIR/findings.jsonl (each problem that has something in common with a
    benchmark problem: with which, how, how much, whether it was dropped) and DIR/counts.json.

    \b
    Example:
      polaris-data decontaminate train.jsonl --against aime25.jsonl --against math500.jsonl --out clean
    """
    from polaris_data.duplicates.decontaminate import write_decontaminated
    from polaris_data.files.journal import check_output, claim_output
    from polaris_data.files.lock import locked_output
    from polaris_data.files.processes import num_usable_processors
    from polaris_data.problems.rows import count_rows, fingerprint

    names = [Path(source).name.partition(".")[0] or source for source in against]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SettingError(f"two benchmarks are named {twice!r}; give each one once, under a file name of its own")
    settings = {
        "command": "polaris-data decontaminate",
        "problems": fingerprint(problems, split=split, revision=revision),
        "against": [fingerprint(source, split="test", revision=None) for source in against],
        "limit": limit,
        "skip_invalid": skip_invalid,
        "drop_shared_passages": drop_shared_passages,
    }
    kept = out / "problems.jsonl"
    with locked_output(kept):
        check_output(kept, settings)
        benchmarks = {
            name: read(source, limit=None, skip_invalid=True, split="test", revision=None)
            for name, source in zip(names, against, strict=True)
        }
        counts = write_decontaminated(
            out,
            iterate(problems, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision),
            benchmarks,
            drop_shared_passages=drop_shared_passages,
            num_processes=processes or num_usable_processors(),
            total=limit or count_rows(problems),
            claim=partial(claim_output, kept, settings),
        )
    for reason, count in counts.items():
        if count or reason == "kept":
            print(f"{count:>9,}  {reason}")
    print(f"\nwrote {kept} and {out / 'findings.jsonl'}")
