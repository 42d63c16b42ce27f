"""``python -m runcard``, and the script ``runcard``."""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    from runcard.cli.app import app

    app(prog_name="runcard")


if __name__ == "__main__":
    main()
