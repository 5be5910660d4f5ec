"""Real processes over gloo, as torchrun would start them, but forked from a server that has torch loaded already."""

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import wait

import torch.distributed as dist

LIMIT = 120.0  # seconds: a hang is a failure


class Together:
    """So many processes, each of which calls `work(*arguments)`; those that are left at the end are killed."""

    def __init__(self, size, work, *arguments):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["supermask.runs", "supermask.cli.compare", "torch._dynamo"])
        # torchrun too keeps the store in a process of its own
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        pipes = [context.Pipe(duplex=False) for _ in range(size)]
        self.answers = [receiving for receiving, _ in pipes]
        self.processes = [
            context.Process(target=_work, args=(rank, size, self.store.port, sending, work, arguments), daemon=True)
            for rank, (_, sending) in enumerate(pipes)
        ]
        for process, (_, sending) in zip(self.processes, pipes, strict=True):
            process.start()
            sending.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.signal(signal.SIGKILL)
        for process in self.processes:
            process.join()

    def signal(self, number, ranks=None):
        for process in self.processes if ranks is None else [self.processes[rank] for rank in ranks]:
            if process.is_alive():
                os.kill(process.pid, number)

    def results(self):
        """Return what each rank returned or raised, in the order of the ranks."""
        answers, end = {}, time.monotonic() + LIMIT
        while len(answers) < len(self.answers):
            left = [pipe for rank, pipe in enumerate(self.answers) if rank not in answers]
            ready = wait(left, timeout=max(0.0, end - time.monotonic()))
            assert ready, f"process {self.answers.index(left[0])} hangs"
            for pipe in ready:
                answers[self.answers.index(pipe)] = pipe.recv()
        return [answers[rank] for rank in range(len(self.answers))]


def together(size, work, *arguments):
    """Return what each of so many processes returned or raised."""
    with Together(size, work, *arguments) as processes:
        return processes.results()


def _work(rank, size, port, sending, work, arguments):
    import torch

    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_USE_AGENT_STORE="True",
    )
    try:
        answer = work(*arguments)
    except BaseException as error:
        answer = error
    sending.send(answer)
    sending.close()
