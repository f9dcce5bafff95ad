"""Run the command as ``python -m polaris_rollout``."""

from polaris_rollout.cli.main import main

if __name__ == "__main__":
    main()
