"""Work that is cut off by SIGKILL in a process of its own."""

import multiprocessing
import os
import signal

LIMIT = 300.0  # seconds, for the import of a framework on a busy machine; a hang is a failure


def killed(work, *arguments):
    """Call `work(*arguments)` in another process, which has to kill itself on the way."""
    process = multiprocessing.get_context("forkserver").Process(target=work, args=arguments, daemon=True)
    process.start()
    process.join(LIMIT)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode == -signal.SIGKILL


def kill():
    os.kill(os.getpid(), signal.SIGKILL)
