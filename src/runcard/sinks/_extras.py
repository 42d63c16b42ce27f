"""Whether the packages that a sink needs are installed, told without importing them."""

from __future__ import annotations

from runcard.errors import MissingExtra


def need(module: str, install: str, *, package: str | None = None) -> None:
    """Refuse to go on without a module.

    Args:
        module: Its name; a folder of that name in the working directory is none.
        install: What pip is told: ``runcard[mlflow]``.
        package: What the module comes with, where it is called otherwise.

    Raises:
        MissingExtra: With the pip command.
    """
    from importlib.util import find_spec

    try:
        found = find_spec(module)
    except (ImportError, ValueError):  # of the package above it, or of a finder that keeps it away
        found = None
    if found is None or found.origin is None:
        quoted = f'"{install}"' if "[" in install else install  # a shell takes brackets for a pattern
        raise MissingExtra(f"{package or module} is not installed: pip install {quoted}")
