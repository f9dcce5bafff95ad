"""What every scheduler is asked for: nodes that run ``polaris run``, and nodes of servers that sample for them."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from polaris_train.controller import Request, request_of
from polaris_train.errors import LaunchError
from polaris_train.recipe import Recipe, check_ranks
from polaris_train.run_folder import RunFolder

HEAD_PORT = 29400
"""At which the first node is met; torchrun's default."""

SERVER_PORT = 8000
"""Of the first server of a node; vLLM's default. The others have the next ones."""

_LONGEST_NAME = 40
"""Kubernetes adds to it, and allows 63 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the recipe does not say."""

    nodes: int
    """That train."""

    server_nodes: int = 0
    """That only sample, besides those."""

    gpus: int
    """Of each node."""

    gpu_kind: str | None = None
    """As the scheduler calls it, such as ``H100``."""

    time: str | None = None
    """Longest time that the job may take, as SLURM writes it."""

    partition: str | None = None
    """Of SLURM."""

    image: str | None = None
    """Of the containers; polaris is installed in it."""

    volume: tuple[str, Path] | None = None
    """A volume that all nodes share, and where it is mounted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of a recipe on several machines."""

    name: str
    """Fit for a host name."""

    recipe: Recipe
    command: tuple[str, ...]
    """What every node that trains is given."""

    folder: Path
    """Of the run, which all nodes share."""

    cluster: Cluster

    @property
    def ranks_per_node(self) -> int:
        """Ranks of each node that trains."""
        return self.recipe.num_processes or self.cluster.gpus

    @property
    def servers_per_node(self) -> int:
        """Servers of each node that only samples, one for each set of GPUs that holds the model."""
        return self.cluster.gpus // self.recipe.tensor_parallel

    @property
    def server_ports(self) -> list[int]:
        """Port of each server of a node."""
        return [SERVER_PORT + place for place in range(self.servers_per_node)]

    @property
    def summary(self) -> str:
        """What runs where, in a few words."""
        trains = f"{self.cluster.nodes} x {self.ranks_per_node} ranks"
        serves = f" and {self.cluster.server_nodes} x {self.servers_per_node} servers"
        return f"{trains}{serves if self.cluster.server_nodes else ''}, run folder {self.folder}"

    @property
    def inventory(self) -> Path:
        """The file that lists the servers, where they are known only when the job runs."""
        return RunFolder(self.folder).servers

    def run_command(self, inventory: str) -> tuple[str, ...]:
        """Return what every node that trains is given, with the file that lists the servers, if there are any."""
        if not self.cluster.server_nodes:
            return self.command
        return (*self.command, *_endpoints(inventory))

    def environment(self, head: str) -> dict[str, str]:
        """Return the variables that torchrun and `polaris_train.controller.nodes` read, apart from the node's number.

        Args:
            head: Name of the first node.
        """
        return {
            "PET_NNODES": str(self.cluster.nodes),
            "PET_RDZV_ENDPOINT": f"{head}:{HEAD_PORT}",
        }


def plan_job(recipe: str, overrides: list[str], out: Path | None, cluster: Cluster) -> Job:
    """Check that a recipe fits the machines, and return the job.

    Args:
        recipe: A TOML file or the name of a packaged recipe.
        overrides: Of ``--set``.
        out: Run folder.
        cluster: The machines.

    Raises:
        RecipeError: If the recipe is wrong, or its ranks do not divide into engines.
        LaunchError: If it does not fit the machines.
    """
    given = [*overrides, *_endpoints("servers.txt")[1:]] if cluster.server_nodes else overrides
    request = request_of(recipe, given, out)
    loaded = request.recipe
    folder = request.folder.path.absolute()
    if cluster.volume is not None and not folder.is_relative_to(cluster.volume[1]):
        raise LaunchError(
            f"the run folder {folder} is not on the volume, which is mounted at {cluster.volume[1]}; give --out "
            f"{cluster.volume[1]}/runs/{loaded.name}"
        )
    name = re.sub("[^a-z0-9]+", "-", f"polaris-{loaded.name}".lower())[:_LONGEST_NAME].strip("-")
    command = _command(request, overrides, folder)
    job = Job(name=name, recipe=loaded, command=command, folder=folder, cluster=cluster)
    if job.ranks_per_node > cluster.gpus:
        raise LaunchError(
            f"num_processes is {job.ranks_per_node} and a node has {cluster.gpus} GPUs; lower it, or give --gpus"
        )
    check_ranks(job.ranks_per_node, loaded.tensor_parallel, loaded.context_parallel)
    return job


def servers_function(job: Job) -> list[str]:
    """Return the lines of a shell function ``servers`` that runs the servers of a node until it is ended.

    A server that ends is started again; it is given the current weights before it samples.
    """
    recipe = job.recipe
    context = max(stage.context for stage in recipe.stages)
    longer = json.dumps({"max_position_embeddings": context})
    line = shlex.join(
        [
            *("vllm", "serve", recipe.model, "--max-model-len", str(context)),
            *("--tensor-parallel-size", str(recipe.tensor_parallel)),
            *("--logprobs-mode", "processed_logprobs", "--generation-config", "vllm", "--enable-scale-out"),
            *("--weight-transfer-config", '{"backend": "polaris_files"}'),
            *(("--hf-overrides", longer) if recipe.extend_positions else ()),
        ]
    )
    size = recipe.tensor_parallel
    calls = [
        f"    serve {','.join(map(str, range(place * size, (place + 1) * size)))} {port} &"
        for place, port in enumerate(job.server_ports)
    ]
    return [
        "servers() {",
        "    serve() {",
        "        while true; do",
        f'            CUDA_VISIBLE_DEVICES=$1 VLLM_SERVER_DEV_MODE=1 {line} --port "$2" || sleep 10',
        "        done",
        "    }",
        *calls,
        "    wait",
        "}",
    ]


def list_servers(job: Job, hosts: str) -> list[str]:
    """Return shell lines that write the addresses of the servers to the file ``$inventory``.

    Args:
        job: The job.
        hosts: Shell expression that gives the nodes, a line each, those that train first.
    """
    ports = " ".join(map(str, job.server_ports))
    return [
        f"mkdir -p {shlex.quote(str(job.folder))}",
        f'tail -n +{job.cluster.nodes + 1} <<<"{hosts}" | while read -r host; do',
        f'    for port in {ports}; do echo "http://$host:$port"; done',
        'done >"$inventory.new"',
        'mv "$inventory.new" "$inventory"',
    ]


def _command(request: Request, overrides: list[str], folder: Path) -> tuple[str, ...]:
    path = Path(request.argument)
    recipe = str(path.absolute()) if path.is_file() else request.argument
    return ("polaris", "run", recipe, "--out", str(folder), *(word for each in overrides for word in ("--set", each)))


def _endpoints(inventory: str) -> tuple[str, str]:
    return ("--set", f"endpoints={json.dumps([inventory], ensure_ascii=False)}")  # A list in TOML looks as in JSON.
