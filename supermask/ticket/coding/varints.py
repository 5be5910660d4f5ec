"""Integers of any size in bytes: seven bits a byte, the lowest first, the highest bit saying that another follows."""

from supermask.errors import TicketError

_LONGEST = 9  # bytes of the integers below 2**63


def write(*values: int) -> bytes:
    """Return the bytes of integers from 0 to 2**63 - 1, one after the other."""
    out = bytearray()
    for value in values:
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


class Reader:
    """Bytes that are read from the front.

    Args:
        data: the bytes.
        what: they hold, for refusals.

    """

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._place, self._what = data, 0, what

    def integer(self) -> int:
        """Return the next integer.

        Raises:
            TicketError: the bytes end before it does, or it is not written as `write` does.

        """
        value = 0
        for place, byte in enumerate(self._data[self._place : self._place + _LONGEST]):
            value |= (byte & 127) << 7 * place
            if byte < 128:
                if byte == 0 and place:
                    break
                self._place += place + 1
                return value
        raise TicketError(f"its {self._what} hold no whole number where one is due.")

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes.

        Raises:
            TicketError: there are fewer.

        """
        part = self._data[self._place : self._place + count]
        if len(part) < count:
            raise TicketError(f"its {self._what} end {count - len(part):,} bytes too early.")
        self._place += count
        return part

    def rest(self) -> bytes:
        """Return all that is left."""
        part, self._place = self._data[self._place :], len(self._data)
        return part

    def end(self) -> None:
        """Refuse bytes that nobody read.

        Raises:
            TicketError: there are some.

        """
        if self._place < len(self._data):
            raise TicketError(f"its {self._what} have {len(self._data) - self._place:,} bytes too many.")
