"""The command `python -m experiments`."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["gpu"]:  # apart from the others, because a machine with a GPU may lack what they need
        from experiments.gpu.command import gpu

        return gpu(given[1:])
    if given[:1] == ["records"]:
        from experiments.records.command import records

        return records(given[1:])
    from experiments.framework.commands import main as commands

    return commands(given)


if __name__ == "__main__":
    sys.exit(main())
