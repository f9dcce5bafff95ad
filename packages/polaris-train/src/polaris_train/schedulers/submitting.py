"""Writing a job's file and handing it to its scheduler."""

import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from polaris_data.files import write_text

from polaris_train.errors import LaunchError
from polaris_train.schedulers.job import Job
from polaris_train.schedulers.kubernetes import kubernetes_file
from polaris_train.schedulers.skypilot import skypilot_file
from polaris_train.schedulers.slurm import slurm_file


@dataclass(frozen=True, slots=True)
class Scheduler:
    """One kind of cluster."""

    write: Callable[[Job], str]
    """Makes the file of a job."""

    suffix: str
    """Of the file."""

    command: tuple[str, ...]
    """Submits a file."""

    options: frozenset[str]
    """What it can be asked for besides nodes and GPUs; see `Cluster`."""


SCHEDULERS = {
    "slurm": Scheduler(slurm_file, "sbatch", ("sbatch",), frozenset({"time", "partition"})),
    "k8s": Scheduler(kubernetes_file, "jobset.yaml", ("kubectl", "apply", "-f"), frozenset({"image", "volume"})),
    "skypilot": Scheduler(skypilot_file, "sky.yaml", ("sky", "launch"), frozenset({"image", "volume"})),
}
"""By the name of their option."""


def write_job(job: Job, scheduler: Scheduler, folder: Path) -> Path:
    """Write the file of a job; return its path.

    Raises:
        LaunchError: If there is a file of that name that says something else.
    """
    path, text = folder / f"{job.name}.{scheduler.suffix}", scheduler.write(job)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise LaunchError(f"{path} exists and says something else; remove it, or give this command in another folder")
    write_text(path, text)
    return path


def submit(path: Path, scheduler: Scheduler) -> int:
    """Hand a file to its scheduler; return the exit code of the scheduler's command.

    Raises:
        LaunchError: If that command is not installed.
    """
    command = [*scheduler.command, str(path)]
    if shutil.which(command[0]) is None:
        raise LaunchError(
            f"{command[0]!r} is not installed here, so nothing was submitted; where it is, give {shlex.join(command)}"
        )
    return subprocess.run(command, check=False).returncode
