"""Run the command as ``python -m polaris_eval``."""

from polaris_eval.cli.main import main

if __name__ == "__main__":
    main()
