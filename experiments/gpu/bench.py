"""What a stage works with: a device, a time limit, and a file that takes a line for each finding at once."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

Value = float | int | str | bool | None


@dataclass(frozen=True)
class Finding:
    """One thing that was measured or checked.

    Attributes:
        stage: its key, e.g. "S1".
        name: what was measured.
        value: the number, or a word.
        unit: of the number; empty for counts and words.
        right: whether a check held; None for a plain measurement.
        details: further plain values.

    """

    stage: str
    name: str
    value: Value
    unit: str = ""
    right: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bench:
    """The surroundings of one stage.

    Attributes:
        stage: key of the stage.
        path: JSON lines, one for each finding.
        seconds: that the stage may take; it begins nothing that would not end in time.
        tiny: use sizes that Triton's interpreter can take on a CPU.

    """

    stage: str
    path: Path
    seconds: float
    tiny: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def device(self) -> torch.device:
        """The GPU if there is one, else the CPU."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.seconds - (time.monotonic() - self.began)

    def size(self, full: int, tiny: int) -> int:
        """Return a size: the full one, or the tiny one where an interpreter has to take it."""
        return tiny if self.tiny else full

    def note(self, name: str, value: Value, unit: str = "", right: bool | None = None, **details: Any) -> None:
        """Append a finding; it is on disk when this returns."""
        finding = Finding(self.stage, name, value, unit, right, details)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(finding)) + "\n")

    def milliseconds(self, work: Callable[[], object], repeats: int, warm_up: int = 2) -> list[float]:
        """Return the time of each repeat; a GPU is idle before and after each."""
        for _ in range(warm_up):
            work()
        return [self._once(work) for _ in range(repeats)]

    def median(self, work: Callable[[], object], repeats: int, warm_up: int = 2) -> float:
        """Return the median of `milliseconds`."""
        return statistics.median(self.milliseconds(work, repeats, warm_up))

    def graphed(self, work: Callable[[], object]) -> Callable[[], object]:
        """Return the work as the replay of a CUDA graph; on a CPU the work itself.

        The work runs three times on a stream of its own before it is captured, as PyTorch's documentation asks.
        """
        if self.device.type != "cuda":
            return work
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay

    def _once(self, work: Callable[[], object]) -> float:
        if self.device.type != "cuda":
            began = time.perf_counter()
            work()
            return 1000 * (time.perf_counter() - began)
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        first.record()
        work()
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last)


def read_findings(path: Path) -> list[Finding]:
    """Return the findings of a file, in order; a line that a killed stage left unfinished is dropped."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    found = []
    for line in lines:
        try:
            found.append(Finding(**json.loads(line)))
        except ValueError:
            continue
    return found
