"""The GPUs that this process may use, without importing torch, which would take them and many seconds."""

import os
import re
import subprocess

_UUID = re.compile(r"\(UUID: ([^)]+)\)")


def visible_devices() -> list[str]:
    """Return a name of each GPU, or of each slice of a GPU (MIG), that CUDA would show; none where there is no GPU.

    Names are fit for ``CUDA_VISIBLE_DEVICES``. As CUDA does, that variable is read up to the first name in it that is
    no device; without it, a GPU that is cut into slices stands for them.
    """
    gpus = _list_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [name for number, gpu in enumerate(gpus) for name in gpu[1:] or [str(number)]]
    uuids = [uuid for gpu in gpus for uuid in gpu]
    found: list[str] = []
    for name in map(str.strip, visible.split(",")):
        is_number = name.isdecimal() and int(name) < len(gpus)
        is_uuid = name.startswith(("GPU-", "MIG-")) and any(uuid.startswith(name) for uuid in uuids)
        if not is_number and not is_uuid:
            break
        found.append(name)
    return found


def _list_gpus() -> list[list[str]]:
    """Return the UUID of each GPU, followed by those of its slices."""
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return []
    gpus: list[list[str]] = []
    for line in listed.stdout.splitlines():
        if line.startswith("GPU "):
            gpus.append(_UUID.findall(line)[:1])
        elif gpus:
            gpus[-1] += _UUID.findall(line)
    return gpus
