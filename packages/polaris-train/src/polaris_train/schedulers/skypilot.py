"""A run as a task of SkyPilot."""

import shlex
from typing import Any

from polaris_train.errors import LaunchError
from polaris_train.schedulers.document import to_yaml
from polaris_train.schedulers.job import Job, list_servers, servers_function

_LOOK_S = 5
"""Between two looks of a node of servers at their list."""

_LINGER_S = 90
"""For which the list stays after the run, so that none of them has missed it: shared folders show files late."""


def skypilot_file(job: Job) -> str:
    """Return the task; ``sky jobs launch`` also brings it back after a preemption.

    Raises:
        LaunchError: If the kind of the GPUs is missing, or a volume where there are several nodes.
    """
    cluster = job.cluster
    if cluster.gpu_kind is None:
        raise LaunchError(f"--gpus is {cluster.gpus}; SkyPilot asks for their kind too: --gpus H100:{cluster.gpus}")
    num_nodes = cluster.nodes + cluster.server_nodes
    if num_nodes > 1 and cluster.volume is None:
        raise LaunchError(
            f"{num_nodes} nodes need a folder that they share; give a volume of SkyPilot: --volume NAME:/shared --out "
            f"/shared/runs/{job.recipe.name}"
        )
    resources: dict[str, Any] = {
        "accelerators": f"{cluster.gpu_kind}:{cluster.gpus}",
        "job_recovery": {"max_restarts_on_errors": job.recipe.max_restarts},
    }
    if cluster.image is not None:
        resources["image_id"] = f"docker:{cluster.image}"
    task: dict[str, Any] = {"name": job.name, "num_nodes": num_nodes, "resources": resources}
    if cluster.volume is not None:
        name, mounted = cluster.volume
        task["volumes"] = {str(mounted): name}
    if cluster.image is None:
        task["setup"] = "pip install 'polaris-train>=2026.11,<2027' 'polaris-rollout[gpu]>=2026.11,<2027'\n"
    return to_yaml(task | {"run": _script(job)})


def _script(job: Job) -> str:
    command = shlex.join(job.run_command(str(job.inventory)))
    lines = [
        "set -euo pipefail",
        'head=$(head -n 1 <<<"$SKYPILOT_NODE_IPS")',
        *(f'export {name}="{value}"' for name, value in job.environment("$head").items()),
        "export PET_NODE_RANK=$SKYPILOT_NODE_RANK",
        *(_servers(job) if job.cluster.server_nodes else ()),
        command,
    ]
    return "\n".join(lines) + "\n"


def _servers(job: Job) -> list[str]:
    """Return what a node does besides the run: the last ones serve, the first lists them until the run has ended."""
    return [
        f"inventory={shlex.quote(str(job.inventory))}",
        f'if [ "$PET_NODE_RANK" -ge {job.cluster.nodes} ]; then',
        *(f"    {line}" for line in servers_function(job)),
        "    export -f servers",
        "    setsid bash -c servers &",
        "    servers=$!",
        f'    until [ -e "$inventory" ]; do sleep {_LOOK_S}; done',
        f'    while [ -e "$inventory" ]; do sleep {_LOOK_S}; done',
        '    kill -- "-$servers"',
        "    exit 0",
        "fi",
        'if [ "$PET_NODE_RANK" = 0 ]; then',
        *(f"    {line}" for line in list_servers(job, "$SKYPILOT_NODE_IPS")),
        f'    forget() {{ sleep {_LINGER_S}; rm -f "$inventory"; }}',
        "    trap forget EXIT",
        "fi",
    ]
