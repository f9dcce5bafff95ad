"""The commands about problems that are the same: ``polaris-data dedup``, ``decontaminate`` and ``split``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from polaris_data.cli.options import Processes, source_options
from polaris_data.problems.source import Source

Embeddings = Annotated[
    bool, typer.Option("--embeddings", help="Compare sentence embeddings too (extra 'embeddings'; slow).")
]
EmbeddingModel = Annotated[str, typer.Option(help="Name on the Hub or folder of the embedding model.", metavar="MODEL")]
MinCosine = Annotated[float, typer.Option(min=0.0, max=1.0, help="Embeddings closer than that are the same.")]
DEFAULT_MODEL, DEFAULT_MIN_COSINE = "sentence-transformers/all-MiniLM-L6-v2", 0.9

Out = Annotated[Path, typer.Option(file_okay=False, help="Folder to write.", metavar="DIR", show_default=False)]


@source_options
def dedup_command(
    problems: Source,
    out: Out,
    prefer: Annotated[
        str,
        typer.Option(help="Sources to keep a problem of, the best first.", metavar="SOURCE,...", show_default=False),
    ] = "",
    drop_conflicts: Annotated[
        bool, typer.Option("--drop-conflicts", help="Keep no problem whose copies have different answers.")
    ] = False,
    embeddings: Embeddings = False,
    embedding_model: EmbeddingModel = DEFAULT_MODEL,
    min_cosine: MinCosine = DEFAULT_MIN_COSINE,
    processes: Processes = None,
) -> None:
    """Keep one problem of each cluster of duplicates.

    Reads PROBLEMS and compares their wording, without typesetting: equal texts, and the same problem in other words
    with the same answer (changed numbers or operators make another problem). Every problem that is dropped was found to
    be the same as the one that is kept. Writes DIR/problems.jsonl (what is kept), DIR/clusters.jsonl (the members of
    each cluster, which one is kept and why, whether their answers conflict) and DIR/counts.json.

    Example:

        polaris-data dedup train.jsonl --prefer aime,deepscaler --out deduplicated
    """
    from polaris_data.duplicates.dedup import deduplicate_problems
    from polaris_data.duplicates.embeddings import Embedding

    counts, clusters = deduplicate_problems(
        problems,
        out,
        prefer=prefer,
        drop_conflicts=drop_conflicts,
        embedding=Embedding(model=embedding_model, min_cosine=min_cosine) if embeddings else None,
        num_processes=processes,
    )
    _print_counts(counts)
    num_conflicts = sum(cluster.conflict for cluster in clusters)
    print(f"{len(clusters):,} clusters, {num_conflicts:,} of them with conflicting answers")
    print(f"\nwrote {out / 'problems.jsonl'} and {out / 'clusters.jsonl'}")


@source_options
def decontaminate_command(
    problems: Source,
    against: Annotated[
        list[str],
        typer.Option(help="A benchmark: whatever PROBLEMS may be. Repeat it.", metavar="BENCH", show_default=False),
    ],
    out: Out,
    drop_shared_passages: Annotated[
        bool,
        typer.Option("--drop-shared-passages", help="Drop other problems that share 13 tokens in a row, too."),
    ] = False,
    embeddings: Embeddings = False,
    embedding_model: EmbeddingModel = DEFAULT_MODEL,
    min_cosine: MinCosine = DEFAULT_MIN_COSINE,
    processes: Processes = None,
) -> None:
    """Drop the problems that are in a benchmark.

    Reads PROBLEMS and every BENCH. Dropped are equal texts, the same problem in other words with the same answer, and
    what repeats a benchmark problem, whatever it asks in the end. What is close and another problem is reported with
    what tells them apart, and kept. Writes DIR/problems.jsonl (what is kept), DIR/findings.jsonl (each problem that
    has something in common with a benchmark problem: which, how, how much, whether it was dropped) and DIR/counts.json.

    Example:

        polaris-data decontaminate train.jsonl --against aime25.jsonl --against math500.jsonl --out clean
    """
    from polaris_data.duplicates.decontaminate import decontaminate_problems
    from polaris_data.duplicates.embeddings import Embedding

    counts = decontaminate_problems(
        problems,
        against,
        out,
        drop_shared_passages=drop_shared_passages,
        embedding=Embedding(model=embedding_model, min_cosine=min_cosine) if embeddings else None,
        num_processes=processes,
    )
    _print_counts(counts.by_kind)
    for difference, count in counts.kept_though_close.items():
        print(f"kept though close to a benchmark problem: {count:,}, {difference}")
    print(f"\nwrote {out / 'problems.jsonl'} and {out / 'findings.jsonl'}")


@source_options
def split_command(
    problems: Source,
    out: Out,
    held_out: Annotated[
        str,
        typer.Option(
            help="About how many problems to hold out (500), or which share of them (0.1).",
            metavar="N|SHARE",
            show_default=False,
        ),
    ],
    seed: Annotated[int, typer.Option(help="Another seed holds out other problems.")] = 0,
    processes: Processes = None,
) -> None:
    """Hold a part of the problems out from training.

    Reads PROBLEMS and writes DIR/train.jsonl and DIR/held-out.jsonl. Which problem goes where depends on a hash of its
    question, not on the order of the file; near-duplicates, as 'dedup' finds them, stay together on one side. With a
    SHARE, problems that are added later move no others.

    Examples:

        polaris-data split train.jsonl --held-out 0.05 --out data
        polaris-data split train.jsonl --held-out 500 --seed 1 --out data
    """
    from polaris_data.selection.split import parse_held_out, split_problems

    counts = split_problems(problems, out, held_out=parse_held_out(held_out), seed=seed, num_processes=processes)
    print(f"{counts.num_train:>9,}  train")
    print(f"{counts.num_held_out:>9,}  held out")
    print(f"{counts.num_clusters:,} clusters of near-duplicates, each on one side")
    print(f"\nwrote {out / 'train.jsonl'} and {out / 'held-out.jsonl'}")


def _print_counts(counts: Mapping[str, int]) -> None:
    for reason, count in counts.items():
        if count or reason == "kept":
            print(f"{count:>9,}  {reason}")
