"""Run the command as ``python -m polaris_train``."""

from polaris_train.cli.main import main

if __name__ == "__main__":
    main()
