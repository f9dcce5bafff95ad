"""Run the command as ``python -m polaris_data``."""

from polaris_data.cli.main import main

if __name__ == "__main__":
    main()
