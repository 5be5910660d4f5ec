"""The errors that this project raises on purpose.

Each carries one sentence: what was wrong, where, and what would be right. The command line prints the sentence and
exits with status 2; everything else that escapes is a bug and keeps its traceback.
"""

from supermask.shown import printable, shortened


class SupermaskError(ValueError):
    """Something that the caller asked for cannot be done."""

    def __str__(self) -> str:
        # a sentence may quote a file, and a traceback is shown by a terminal too
        return printable(super().__str__())


class TicketError(SupermaskError):
    """A ticket, or a file that should hold one, is not what it should be."""


class DataError(SupermaskError):
    """A data set is unknown, missing or damaged."""


class RunError(SupermaskError):
    """A folder of a run, or a checkpoint in it, is not what it should be."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, without its full stop, to be put into a sentence; else its name."""
    try:
        said = str(error).strip()
    except Exception:  # an error of anyone's code may not even be told
        said = ""
    # an error without a message would have no first line to take
    return (said or type(error).__name__).splitlines()[0].rstrip(".")


def reason_of(error: BaseException) -> str | None:
    """Return in a sentence why something could not be carried out; None where the error is a fault of the code.

    A full disk, a long name, too many open files and too little memory are not faults of the code.
    """
    if isinstance(error, SupermaskError):
        return str(error)
    if isinstance(error, OSError):
        file = "a file" if error.filename is None else shortened(printable(str(error.filename)))
        return f"Cannot read or write {file}: {error.strerror or error}."
    if isinstance(error, ValueError) and str(error) == "embedded null byte":  # what Python's own open says
        return "Cannot read or write a file: its path has a null byte."
    # torch says it by a RuntimeError, on the CPU without a class of its own
    told = isinstance(error, RuntimeError) and ("allocate memory" in str(error) or "out of memory" in str(error))
    if told or isinstance(error, MemoryError):
        return "There is not enough memory for this; give a smaller network, smaller batches or fewer runs."
    return None
