"""Run the command as ``python -m polaris_reward``."""

from polaris_reward.cli.main import main

if __name__ == "__main__":
    main()
