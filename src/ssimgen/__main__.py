"""The command `ssimgen`, also as `python -m ssimgen`."""

import sys

from ssimgen._interruption import install, over


def main() -> int:
    """Run the command in the arguments of the process; returns its exit code."""
    install()  # before the imports below, which take a while
    with over():
        from ssimgen.cli import main as run

        return run()


if __name__ == "__main__":
    sys.exit(main())
