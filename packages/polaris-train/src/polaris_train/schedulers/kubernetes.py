"""A run as a JobSet of Kubernetes, with the Service that gives its pods names."""

from typing import Any

from polaris_train.errors import LaunchError
from polaris_train.schedulers.document import to_yaml
from polaris_train.schedulers.job import HEAD_PORT, Job, servers_function

_GRACE_S = 60
"""Between the signal to end and the end: what is finished is on disk already."""

_INVENTORY = "/etc/polaris/servers.txt"


def kubernetes_file(job: Job) -> str:
    """Return a Service and a JobSet; with servers also the ConfigMap that lists them, to be changed at any time.

    Raises:
        LaunchError: If the image or the volume is missing.
    """
    if job.cluster.image is None or job.cluster.volume is None:
        raise LaunchError(
            "pods need an image with polaris in it and a folder that they share: give --image NAME and --volume "
            f"CLAIM:/shared, a PersistentVolumeClaim, with --out /shared/runs/{job.recipe.name}"
        )
    documents = [_service(job), _job_set(job)]
    if job.cluster.server_nodes:
        documents.insert(0, _config_map(job))
    return to_yaml(*documents)


def _service(job: Job) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": job.name},
        "spec": {
            "clusterIP": "None",
            "selector": {"jobset.sigs.k8s.io/jobset-name": job.name},
            "publishNotReadyAddresses": True,  # The nodes look for the first one while they start.
            "ports": [{"name": "rendezvous", "port": HEAD_PORT}],
        },
    }


def _config_map(job: Job) -> dict[str, Any]:
    hosts = [f"{job.name}-servers-0-{node}.{job.name}" for node in range(job.cluster.server_nodes)]
    addresses = [f"http://{host}:{port}\n" for host in hosts for port in job.server_ports]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": job.name},
        "data": {"servers.txt": "".join(addresses)},
    }


def _job_set(job: Job) -> dict[str, Any]:
    nodes = [_replicated("nodes", job.cluster.nodes, _trainer(job), job)]
    if job.cluster.server_nodes:
        command = ["bash", "-c", "\n".join([*servers_function(job), "servers\n"])]
        nodes.append(_replicated("servers", job.cluster.server_nodes, {"command": command}, job))
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": job.name},
        "spec": {
            "network": {"enableDNSHostnames": False, "subdomain": job.name},  # By the Service above.
            "failurePolicy": {"maxRestarts": job.recipe.max_restarts},
            "successPolicy": {"operator": "All", "targetReplicatedJobs": ["nodes"]},
            "replicatedJobs": nodes,
        },
    }


def _trainer(job: Job) -> dict[str, Any]:
    environment = job.environment(f"{job.name}-nodes-0-0.{job.name}")
    rank = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    return {
        "command": list(job.run_command(_INVENTORY)),
        "env": [
            *({"name": name, "value": value} for name, value in environment.items()),
            {"name": "PET_NODE_RANK", "valueFrom": rank},
        ],
    }


def _replicated(name: str, num: int, container: dict[str, Any], job: Job) -> dict[str, Any]:
    """Return one pod for each of so many nodes."""
    assert job.cluster.volume is not None
    claim, mounted = job.cluster.volume
    volumes: list[dict[str, Any]] = [
        {"name": "shared", "persistentVolumeClaim": {"claimName": claim}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},  # For NCCL and vLLM, which share memory.
    ]
    mounts = [{"name": "shared", "mountPath": str(mounted)}, {"name": "memory", "mountPath": "/dev/shm"}]
    if job.cluster.server_nodes:
        volumes.append({"name": "inventory", "configMap": {"name": job.name}})
        mounts.append({"name": "inventory", "mountPath": "/etc/polaris"})
    pod = {
        "subdomain": job.name,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE_S,
        "containers": [
            {
                "name": "polaris",
                "image": job.cluster.image,
                **container,
                "resources": {"limits": {"nvidia.com/gpu": job.cluster.gpus}},
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }
    spec = {"parallelism": num, "completions": num, "completionMode": "Indexed", "backoffLimit": 0}
    return {"name": name, "replicas": 1, "template": {"spec": {**spec, "template": {"spec": pod}}}}
