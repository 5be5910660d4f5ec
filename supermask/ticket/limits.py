"""How much memory a ticket's file may ask for: what it declares is held against this before memory is taken for it.

A file can say in a few bytes that it keeps billions of weights, and deflate saves up to 1,032 times. Both are right at
times: a mask that keeps one in a million of 2**31 weights takes 6 KB, one that keeps all takes none. So the memory goes
with the size of the file. A file below 1 KB gets half a gigabyte, so that any process can read it; beyond that each
byte is worth 512 KiB, which the mask of 2**31 entries needs, up to 4 GiB; and 32 KiB a byte for large files, in which
masks that were trained take a byte for less than a thousand weights.
"""

from dataclasses import dataclass

from supermask.errors import TicketError

_LEAST, _USUAL, _MOST = 1 << 29, 1 << 32, 1 << 35
_SMALL = 1 << 10  # bytes of a file whose size buys no memory


@dataclass(frozen=True)
class Limits:
    """Bytes of memory for each part of a file.

    Attributes:
        masks: and what is known of their weights while they are read.
        learned: the learned tensors, inflated.
        header: its text, inflated; as Python values it takes up to 32 times as much.

    """

    masks: int
    learned: int
    header: int

    @classmethod
    def of(cls, size: int, header: int, learned: int, memory: int | None) -> "Limits":
        """Return the limits of a file.

        Args:
            size: bytes of the file.
            header: bytes of its header, deflated. One of many tasks, which are alike, takes a hundredth of its text.
            learned: bytes of its learned tensors, deflated. Trained numbers hardly deflate, many equal ones do.
            memory: bytes in all, from a caller who trusts the file; None is what a file of this size is given.

        """
        if memory is not None:
            return cls(memory, memory, memory)
        masks = max(min(_LEAST + max(0, size - _SMALL) * (1 << 19), _USUAL), size * (1 << 15))
        return cls(min(masks, _MOST), (1 << 26) + 64 * learned, min((1 << 22) + 256 * header, 1 << 24))


def check_memory(part: str, needed: int, allowed: int) -> None:
    """Refuse what takes too much memory.

    Raises:
        TicketError: it does.

    """
    if needed > _NO_MACHINE:
        raise TicketError(f"its {part} would take more memory than any machine has.")
    if needed > allowed:
        raise TicketError(
            f"its {part} would take {_told(needed)} of memory, and a file of its size is given {_told(allowed)}; if you"
            f" trust it, read it in Python with memory={needed} or more."
        )


_NO_MACHINE = 1 << 50


def _told(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
