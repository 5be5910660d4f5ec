"""Carrying out what is left of several runs, behind one progress bar."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

from supermask.runs.executors import Ended, Executor
from supermask.runs.planned import Planned


def run_all(
    executor: Executor,
    left: Sequence[Planned[Any]],
    *,
    total: int,
    title: str,
    told: Callable[[Ended], str | None],
    shown: bool | None = True,
) -> list[Ended]:
    """Carry out runs; what is finished is not repeated, what was stopped goes on. Return those that failed.

    Args:
        executor: carries them out.
        left: those that are not finished.
        total: runs in all.
        title: of the progress bar.
        told: is called after each run, and returns a line to print on standard error, or None.
        shown: show the bar; None is where standard error is a terminal.

    Raises:
        Stopped: Ctrl-C or SIGTERM.

    """
    failed = []
    disable = None if shown is None else not shown
    done = total - len(left)
    with tqdm(total=total, initial=done, desc=title, unit="run", disable=disable, dynamic_ncols=True) as bar:
        for end in executor.ends(left, bar.set_postfix_str):
            if end.error is not None:
                failed.append(end)
            line = told(end)
            bar.update()
            if line is not None:
                bar.write(line, file=sys.stderr)
    return failed
