"""A run as an sbatch file."""

import shlex
import sys
from pathlib import Path

from polaris_train.schedulers.job import Job, list_servers, servers_function

_WARNING_S = 120
"""Before the time limit: enough to end the processes and to go back into the queue."""


def slurm_file(job: Job) -> str:
    """Return the batch script: it goes back into the queue before its time is up, and when a node fails."""
    cluster, environment = job.cluster, job.environment("$head")
    kind = f"{cluster.gpu_kind.lower()}:" if cluster.gpu_kind else ""
    requests = {
        "job-name": job.name,
        "nodes": cluster.nodes + cluster.server_nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": f"{kind}{cluster.gpus}",
        "exclusive": None,
        "partition": cluster.partition,
        "time": cluster.time,
        "requeue": None,
        "open-mode": "append",
        "signal": f"B:USR1@{_WARNING_S}",
    }
    optional = ("partition", "time")
    lines = [
        "#!/bin/bash",
        *(
            f"#SBATCH --{name}" + ("" if value is None else f"={value}")
            for name, value in requests.items()
            if value is not None or name not in optional
        ),
        "set -euo pipefail",
        f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        'hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")',
        'head=$(head -n 1 <<<"$hosts")',
        *(f'export {name}="{value}"' for name, value in environment.items()),
        *(_servers(job) if cluster.server_nodes else ()),
        "",
        "node() {",
        f"    PET_NODE_RANK=$SLURM_PROCID exec {shlex.join(job.run_command(str(job.inventory)))}",
        "}",
        "export -f node",
        _srun(cluster.nodes, "node"),
        "run=$!",
        "",
        "# The time is nearly up: what is finished is kept, and the job waits for its next turn.",
        "again() {",
        '    scancel --signal=TERM "$SLURM_JOB_ID"',
        '    wait "$run" || true',
        '    scontrol requeue "$SLURM_JOB_ID"',
        "    exit 0",
        "}",
        "trap again USR1",
        'wait "$run"',
    ]
    return "\n".join(lines) + "\n"


def _servers(job: Job) -> list[str]:
    """Return what lists the servers in a file and starts them."""
    return [
        "",
        f"inventory={shlex.quote(str(job.inventory))}",
        *list_servers(job, "$hosts"),
        *servers_function(job),
        "export -f servers",
        _srun(job.cluster.server_nodes, "servers", first=job.cluster.nodes),
    ]


def _srun(nodes: int, function: str, *, first: int = 0) -> str:
    # One task a node starts a process for each GPU: it must not be bound to one core.
    options = f"--nodes={nodes} --ntasks={nodes} --relative={first} --kill-on-bad-exit=1 --cpu-bind=none"
    return f"srun {options} bash -c {function} &"
