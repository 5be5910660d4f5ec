"""Training over several processes: who takes part, and what they tell each other.

Each process holds the whole model and draws the same batches and takes its share of each; `torchrun` starts them.
Values and decisions go over a gloo group on the CPU, gradients over gloo or, on CUDA, over nccl.
"""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from supermask.errors import RunError, SupermaskError

T = TypeVar("T")
_GROUPS = itertools.count()  # made so far; the same in all processes


@dataclass(frozen=True)
class Processes:
    """The processes that train together; by default a single process without communication.

    All of them must call the same methods in the same order, but for `share` and `parallel`.

    Attributes:
        rank: number of this process, from 0; the first one writes and prints.
        size: processes in all.
        group: carries CPU tensors between them.

    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return which of `count` things, in order, are this process's; shares differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def gather(self, values: Tensor) -> Tensor:
        """Return everyone's values by rank, (size, *shape) on the CPU; the shape must be the same for all."""
        values = values.detach().cpu()
        parts = [values]
        if not self.alone:
            parts = [torch.empty_like(values) for _ in range(self.size)]
            # not all_reduce, which chooses the order of its additions itself
            dist.all_gather(parts, values, group=self.group)
        return torch.stack(parts)

    def sum(self, *values: float) -> list[float]:
        """Return the sums over all processes, the same bits on each: they are added in the order of the ranks."""
        return self.gather(torch.tensor(values, dtype=torch.float64, device="cpu")).sum(0).tolist()

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, on the device of the values; the same bits on each."""
        return values if self.alone else self.gather(values).sum(0).to(values.device)

    def greatest(self, *values: float) -> list[float]:
        """Return the greatest over all processes of each value."""
        return self.gather(torch.tensor(values, dtype=torch.float64, device="cpu")).amax(0).tolist()

    def once(self, action: Callable[[], T]) -> T:
        """Return what the first process's action returned; what it could not do is every process's error."""
        if self.alone:
            return action()
        answer: list[Any] = [None]
        if self.leads:
            try:
                answer = [action()]
            # these are meant for people; any other error is a bug and keeps its traceback
            except SupermaskError as error:
                answer = [error]
        dist.broadcast_object_list(answer, src=0, group=self.group)
        if isinstance(answer[0], SupermaskError):
            raise answer[0]
        result: T = answer[0]
        return result

    def led(self, action: Callable[[], T]) -> T:
        """Return what the action returns here, where the first process does it before the others.

        So the others find what it fetched, and do not fetch it too.
        """
        done: list[T] = []
        self.once(lambda: done.append(action()))
        return done[0] if done else action()

    def refuse_differences(self, tensors: Iterable[Tensor], step: int) -> None:
        """Compare a digest of tensors that must be the same on all processes, bit for bit.

        Raises:
            RunError: they are not.

        """
        if self.alone:
            return
        # 32 bytes from each process instead of all parameters
        digests = self.gather(_digest(tensors))
        other = (digests != digests[0]).any(1).nonzero().flatten().tolist()
        if other:
            raise RunError(
                f"After step {step} process {other[0]} holds other parameters or masks than process 0; start all with"
                " the same model, seed and data, and go on from the last checkpoint."
            )

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return the model with gradients that are averaged over the processes in its backward pass."""
        if self.alone:
            return model
        cpu = next(model.parameters()).device.type == "cpu"
        together = DistributedDataParallel(
            model,
            # our group is one of gloo, for the CPU; None is the default group, on GPUs that of nccl
            process_group=self.group if cpu else None,
            init_sync=False,  # all start from the same seed; what differs is refused and not papered over
            # saves a second copy of all gradients
            gradient_as_bucket_view=True,
            static_graph=True,  # takes parameters that no output depends on
        )
        # Each process selects its masks from the same scores by the same rule, and the statistics of batch norm are
        # averaged before they are used. The attribute, because the argument's name depends on the version of torch.
        together.broadcast_buffers = False
        return together


ALONE = Processes()
_JOINED: ContextVar[Processes | None] = ContextVar("joined", default=None)  # by the outermost call of this thread


@contextmanager
def joined(device: str | torch.device) -> Iterator[Processes]:
    """Take part in the process group that is there, else in the one that torchrun asks for, else work alone.

    A group that was there stays; one that is made here is destroyed at the end. Within this context the same call
    returns the same processes again: a command joins once, and what it calls works with its group.

    Raises:
        RunError: another process has ended in the meantime.

    """
    if (outer := _JOINED.get()) is not None:
        yield outer
    elif _grouped():
        with _member() as processes:
            yield processes
    elif launched()[1] == 1:
        yield ALONE
    else:
        _make_group(torch.device(device))
        try:
            with _member() as processes:
                yield processes
        finally:
            dist.destroy_process_group()


def _make_group(device: torch.device) -> None:
    if device.type == "cuda":
        # nccl works on the current device
        torch.cuda.set_device(device)
    store, rank, size = next(dist.rendezvous("env://"))
    # a prefix of its own: in the addresses that an earlier group left in the store nobody answers any more
    own = dist.PrefixStore(f"supermask/{next(_GROUPS)}", store)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=own, rank=rank, world_size=size)


@contextmanager
def _member() -> Iterator[Processes]:
    if dist.get_world_size() == 1:
        yield ALONE
        return
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)  # of all processes, so of this one
    processes = Processes(dist.get_rank(), dist.get_world_size(), group)
    token = _JOINED.set(processes)
    try:
        yield processes
    except RuntimeError as error:
        # gloo reports a lost connection by a plain RuntimeError
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise RunError("Another process of this run has ended, and this one cannot go on alone.") from error
        raise
    finally:
        _JOINED.reset(token)
        if _grouped():
            dist.destroy_process_group(group)


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def launched() -> tuple[int, int]:
    """Return (rank, processes in all) as torchrun set them; (0, 1) without it."""
    # env:// needs all four of them to make a group
    if not all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def own_device(device: str | torch.device) -> torch.device:
    """Return the device of this process: "cuda" without a number is the GPU of its number on this machine.

    Raises:
        SupermaskError: there are fewer GPUs than processes.

    """
    device = torch.device(device)
    if device.type != "cuda" or device.index is not None or launched()[1] == 1 or "LOCAL_RANK" not in os.environ:
        return device
    local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= there:
        raise SupermaskError(
            f"Process {local} on this machine has no GPU: PyTorch sees {there}; start no more processes than"
            " GPUs, or train on the CPU."
        )
    return torch.device("cuda", local)


def first_to_say(sentence: str) -> bool:
    """Return whether no other process that torchrun started has asked about the same sentence before."""
    if launched()[1] == 1:
        return True
    # after a restart by torchrun the sentence may be said again
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    key = f"supermask/said/{attempt}/{hashlib.sha256(sentence.encode()).hexdigest()}"
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        # a few seconds only, because the process is about to end and the store may be gone already
        store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=5))
        # add is atomic, so that exactly one process gets 1
        return int(store.add(key, 1)) == 1
    except RuntimeError:  # the store is gone: better twice than never
        return True


def _digest(tensors: Iterable[Tensor]) -> Tensor:
    """Return the SHA-256 of the tensors' bytes: uint8 (32,)."""
    digest = hashlib.sha256()
    for tensor in tensors:
        # bytes and not values, so that NaN equals NaN and -0 differs from 0
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
