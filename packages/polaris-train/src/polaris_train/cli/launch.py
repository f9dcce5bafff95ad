"""``polaris launch``: a run on the machines of a scheduler."""

from pathlib import Path
from typing import Annotated

import typer

from polaris_train.cli.arguments import RecipeArgument, SetOption


def launch_command(
    recipe: RecipeArgument,
    slurm: Annotated[bool, typer.Option("--slurm", help="Write an sbatch file.")] = False,
    k8s: Annotated[bool, typer.Option("--k8s", help="Write a JobSet and a Service of Kubernetes.")] = False,
    skypilot: Annotated[bool, typer.Option("--skypilot", help="Write a task of SkyPilot.")] = False,
    nodes: Annotated[int, typer.Option(min=1, help="Machines that train.")] = 1,
    server_nodes: Annotated[
        int, typer.Option(min=0, help="Machines beside them that only sample, with a `vllm serve` on each set of GPUs.")
    ] = 0,
    gpus: Annotated[str, typer.Option(metavar="[KIND:]N", help="GPUs of each machine, e.g. 8 or H100:8.")] = "8",
    time: Annotated[str | None, typer.Option(metavar="D-HH:MM:SS", help="Time limit of SLURM.")] = None,
    partition: Annotated[str | None, typer.Option(help="Partition of SLURM.")] = None,
    image: Annotated[str | None, typer.Option(help="Container image with polaris in it.")] = None,
    volume: Annotated[
        str | None, typer.Option(metavar="NAME:PATH", help="Volume that the machines share, and where it is mounted.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Run folder, which all machines share.  [default: runs/RECIPE]", show_default=False
        ),
    ] = None,
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the file and submit nothing.")] = False,
) -> None:
    """Run a recipe on several machines: write the file that a scheduler takes, and submit it.

    All machines are given the same 'polaris run': the first does the steps, the others train with it in every stage.
    Ranks that end are started again from the newest checkpoint, and a job that is ended continues when it is started
    again. The run folder must be shared by all of them.

    The file is written here and named by the recipe; it is yours to change, and submitted by sbatch, 'kubectl apply'
    or 'sky launch'.

    Examples:

        polaris launch qwen3-4b --slurm --nodes 4 --time 1-00:00:00 --out /shared/runs/4b --dry-run
        polaris launch qwen3-4b --k8s --nodes 2 --image registry/polaris --volume claim:/shared --out /shared/runs/4b
    """
    from polaris_train.errors import LaunchError
    from polaris_train.schedulers import SCHEDULERS, Cluster, plan_job, submit, write_job

    asked = {"slurm": slurm, "k8s": k8s, "skypilot": skypilot}
    chosen = [name for name, is_chosen in asked.items() if is_chosen]
    if len(chosen) != 1:
        raise LaunchError("give one of --slurm, --k8s and --skypilot")
    scheduler = SCHEDULERS[chosen[0]]
    given = {"time": time, "partition": partition, "image": image, "volume": volume}
    for name, value in given.items():
        if value is not None and name not in scheduler.options:
            raise LaunchError(
                f"--{name} is not for --{chosen[0]}, which has --{' and --'.join(sorted(scheduler.options))}"
            )
    kind, num_gpus = _parse_gpus(gpus)
    cluster = Cluster(
        nodes=nodes,
        server_nodes=server_nodes,
        gpus=num_gpus,
        gpu_kind=kind,
        time=time,
        partition=partition,
        image=image,
        volume=None if volume is None else _parse_volume(volume),
    )
    job = plan_job(recipe, set_ or [], out, cluster)
    path = write_job(job, scheduler, Path())
    print(f"written: {path} ({job.summary})")
    if dry_run:
        return
    if code := submit(path, scheduler):
        raise typer.Exit(code)


def _parse_gpus(text: str) -> tuple[str | None, int]:
    from polaris_train.errors import LaunchError

    kind, _, number = text.rpartition(":")
    if not number.isdecimal() or int(number) < 1:
        raise LaunchError(f"--gpus is {text!r}; give their number, or kind and number as in H100:8")
    return kind or None, int(number)


def _parse_volume(text: str) -> tuple[str, Path]:
    from polaris_train.errors import LaunchError

    name, _, path = text.partition(":")
    if not name or not path.startswith("/"):
        raise LaunchError(f"--volume is {text!r}; give the name of a volume and an absolute path, as in claim:/shared")
    return name, Path(path)
