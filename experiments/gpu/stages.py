"""The stages in the order of trust: what the machine is, whether masks are right, and only then how fast they are."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from experiments.gpu.bench import Bench


@dataclass(frozen=True)
class Stage:
    """One part of the command, which runs in a process of its own.

    Attributes:
        key: "S0" to "S10".
        title: what it shows.
        place: "module:function" under `experiments.gpu`; imported in the stage's own process alone.
        seconds: that it takes at most on a GPU.
        least: seconds without which it is not begun.
        needed: whether a wrong answer ends the command, since no later number could be trusted.

    """

    key: str
    title: str
    place: str
    seconds: float
    least: float
    needed: bool = False

    @property
    def run(self) -> Callable[[Bench], None]:
        """The stage's function."""
        module, _, function = self.place.partition(":")
        found: Callable[[Bench], None] = getattr(import_module(f"experiments.gpu.{module}"), function)
        return found


_ALL = (
    Stage("S0", "environment", "environment:run", 40, 5, needed=True),
    Stage("S1", "selection against a stable sort", "selection:run", 60, 10, needed=True),
    Stage("S2", "tests under the marker gpu", "suite:run", 150, 30),
    Stage("S3", "launches of a selection", "launches:run", 40, 15),
    Stage("S4", "training steps beside dense ones", "steps:run", 150, 20),
    Stage("S5", "the training loop", "training:run", 60, 20),
    Stage("S6", "variants", "variants:run", 60, 15),
    Stage("S7", "random weights made there", "growing:run", 40, 10),
    Stage("S8", "subset sums", "sums:run", 30, 15),
    Stage("S9", "sanitizer", "tools:sanitize", 60, 20),
    Stage("S10", "counters", "tools:count", 45, 20),
)
STAGES = {stage.key: stage for stage in _ALL}
