"""The README's example runs."""

import re
from pathlib import Path


def test_the_python_example_of_the_readme_runs():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    names = {}
    exec(example, names)
    assert names["logprobs"].grad is not None
