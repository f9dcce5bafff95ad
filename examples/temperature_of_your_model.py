"""Find the temperature to train at, on problems that are not trained on.

    python examples/temperature_of_your_model.py [PROBLEMS [MODEL]]

PROBLEMS has ``problem`` and ``answer``. Without arguments: 16 synthetic problems, the demonstration model, and too few
answers for more than a look, on a CPU, in a minute or two. Killed and started again, it continues.
"""

import sys
from pathlib import Path

from polaris_data import read_problems, write_problems
from polaris_rollout import EngineSpec
from polaris_rollout.temperature import Calibration, calibrate


def main(source: str = "synthetic:held-out", model: str = "tiny") -> None:
    """Search from 0.6 to 2.0 for where controlled exploration starts; write ``temperature.json`` and a plot."""
    look = source.startswith("synthetic")
    write_problems("held-out.jsonl", read_problems(source, limit=16 if look else None))
    calibration = Calibration(num_problems=16, answers=12) if look else Calibration()
    report = calibrate(Path("held-out.jsonl"), Path("temperature"), EngineSpec(model), calibration)
    print(f"temperature {report['temperature']:.2f}; temperature/temperature.json says why")


if __name__ == "__main__":
    main(*sys.argv[1:])
