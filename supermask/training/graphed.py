"""A training step as a CUDA graph: its launches are handed to the GPU at once, so that none waits for Python.

The first steps are taken one launch after the other, on a stream of their own, as PyTorch's notes on CUDA graphs ask:
they compile kernels and make what lives longer than a step. One step is then captured, and each later step copies its
batch and its learning rate to where the captured one reads them, and replays it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from supermask.data import DataSet
from supermask.data.batch import Batch
from supermask.errors import SupermaskError
from supermask.training.processes import Processes
from supermask.training.subject import Estimating, Subject, is_complete

WARM_UP = 3
"""Optimizer steps before the one that is captured; a search looks at its gradients after as many."""


@runtime_checkable
class Capturable(Protocol):
    """A subject whose step a CUDA graph can hold, if it says so.

    Attributes:
        capturable: whether what it does in a step waits for nothing and depends on nothing that the host decides.

    """

    capturable: bool

    def replayed(self) -> None:
        """Count a step that a CUDA graph has replayed."""


class Recording(NamedTuple):
    """A piece of work that can be done again.

    Attributes:
        replay: does it again, on the same tensors.
        loss: float32 scalar, which each replay writes.

    """

    replay: Callable[[], None]
    loss: Tensor


class Recorder(Protocol):
    """What records a step."""

    def aside(self, work: Callable[[], Tensor]) -> Tensor:
        """Return what the work returns; it is done at once, but where a recording would be."""

    def record(self, work: Callable[[], Tensor]) -> Recording:
        """Return the work as a recording; nothing is done yet."""


class CudaRecorder:
    """Records CUDA graphs.

    Args:
        device: that the work runs on.

    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def aside(self, work: Callable[[], Tensor]) -> Tensor:
        """Do the work on a stream of its own."""
        with torch.cuda.device(self._device):
            present = torch.cuda.current_stream()
            self._stream.wait_stream(present)
            with torch.cuda.stream(self._stream):
                loss = work()
            present.wait_stream(self._stream)
            return loss

    def record(self, work: Callable[[], Tensor]) -> Recording:
        """Capture the work.

        Raises:
            SupermaskError: it asks for what no graph can hold, such as a number of the GPU.

        """
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(self._device), torch.cuda.graph(graph):
                loss = work()
        except RuntimeError as error:
            raise SupermaskError(
                f"A CUDA graph cannot hold this training step ({str(error).splitlines()[0]}); take what waits for the"
                " GPU out of the network and the loss, or train without graph=True."
            ) from error
        return Recording(graph.replay, loss)


class GraphedStep:
    """Takes optimizer steps: the first as they are, the others as replays of one that was recorded.

    Args:
        step: takes an optimizer step on a batch and returns the loss, float32 scalar.
        replayed: is called after each replay.
        recorder: what records.
        device: of the learning rate.

    Attributes:
        rate: float32 scalar, the learning rate that the optimizer reads.

    """

    def __init__(
        self, step: Callable[[Batch], Tensor], replayed: Callable[[], None], recorder: Recorder, device: torch.device
    ) -> None:
        self._step, self._replayed, self._recorder = step, replayed, recorder
        self.rate = torch.zeros((), device=device)
        self._taken = 0
        self._held: Batch | None = None
        self._recording: Recording | None = None

    def __call__(self, batch: Batch, rate: float) -> Tensor:
        """Take a step on a batch at a learning rate; return the loss, which the next step overwrites."""
        self.rate.fill_(rate)
        if self._taken < WARM_UP:
            self._taken += 1
            return self._recorder.aside(lambda: self._step(batch))
        held = self._hold(batch)
        if self._recording is None:
            self._recording = self._recorder.record(lambda: self._step(held))
        self._recording.replay()
        self._replayed()
        return self._recording.loss

    def _hold(self, batch: Batch) -> Batch:
        """Return the batch where the recorded step reads it."""
        if self._held is None:
            self._held = Batch(batch.inputs.clone(), batch.targets.clone())
        for place, tensor in zip(self._held, batch, strict=True):
            place.copy_(tensor)
        return self._held


def graphed(
    step: Callable[[Batch], Tensor], subject: Subject, data: Any, device: torch.device, processes: Processes
) -> GraphedStep:
    """Return what takes the steps of a training as a CUDA graph.

    Raises:
        SupermaskError: a graph cannot hold them.

    """
    if device.type != "cuda":
        raise SupermaskError(f"graph=True makes CUDA graphs and the device is {device}; train without it.")
    if not processes.alone:
        raise SupermaskError(
            f"graph=True trains in one process and there are {processes.size}; train without it, or start one."
        )
    if not isinstance(data, DataSet):
        raise SupermaskError(
            "graph=True needs batches that all have one shape, which data loaders do not promise; give a DataSet, or"
            " train without it."
        )
    if not isinstance(subject, Capturable) or not subject.capturable or isinstance(subject, Estimating):
        raise SupermaskError(
            f"{subject.name} does in its steps what a CUDA graph cannot hold; train it without graph=True."
        )
    if not is_complete(subject):
        raise SupermaskError(
            f"The density of {subject.name} changes from step to step, which a CUDA graph does not; search without a"
            " schedule, or train without graph=True."
        )
    return GraphedStep(step, subject.replayed, CudaRecorder(device), device)
