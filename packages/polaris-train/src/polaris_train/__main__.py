"""Run the command as ``python -m polaris_train``."""

from polaris_train.cli import main

if __name__ == "__main__":
    main()
