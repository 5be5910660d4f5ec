"""One stage in a process of its own; `experiments.gpu.command` starts it."""

import argparse
from pathlib import Path

from experiments.gpu.bench import Bench
from experiments.gpu.stages import STAGES


def main() -> None:
    """Run the stage that the arguments name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    STAGES[given.stage].run(Bench(given.stage, given.path, given.seconds, given.tiny))


if __name__ == "__main__":
    main()
