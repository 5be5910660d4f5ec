"""The outside of a ticket's file: a prefix by which every byte is checked, and three sections whose lengths it gives.

    0   7  89 "ticket"
    7   1  format
    8   4  bytes of the header
    12  8  bytes of the coded masks
    20  8  bytes of the learned tensors
    28  4  CRC-32 of the 28 bytes so far: by a sound prefix, a file that was cut is known from one that was changed
    32  32 SHA-256 of the whole file but these 32 bytes

Numbers are little-endian; the sections follow in this order, and nothing follows them.
"""

import hashlib
import struct
import zlib
from typing import NamedTuple

from supermask.errors import TicketError

FORMAT = 2
_MAGIC = b"\x89ticket"  # no text begins with this byte, so that no text is taken for a ticket
_LENGTHS = struct.Struct("<IQQ")
_SIGNED = len(_MAGIC) + 1 + _LENGTHS.size  # bytes that the CRC-32 covers
PREFIX = _SIGNED + 4 + 32
"""Bytes of the prefix."""
FIXED = PREFIX - _LENGTHS.size
"""Bytes of the prefix that are the same in all files, or that the rest of a file fixes: all but its lengths."""


class Sections(NamedTuple):
    """What the file is made of."""

    header: bytes
    coded: bytes
    learned: bytes


def seal(sections: Sections) -> bytes:
    """Return the bytes of a file; equal sections give equal bytes.

    Raises:
        TicketError: the header has 4 GiB or more.

    """
    if len(sections.header) >= 1 << 32:
        raise TicketError("The header of the ticket has 4 GiB or more; shorten its provenance.")
    head = _MAGIC + bytes([FORMAT]) + _LENGTHS.pack(*map(len, sections))
    head += zlib.crc32(head).to_bytes(4, "little")
    body = b"".join(sections)
    return head + hashlib.sha256(head + body).digest() + body


def unseal(data: bytes) -> Sections:
    """Return the sections of a file once every byte of it has been checked.

    Raises:
        TicketError: the bytes are cut short, damaged, of another format, or no ticket; the message says which.

    """
    if not data:
        raise TicketError("it is empty; fetch it again.")
    if data[: len(_MAGIC)] != _MAGIC[: len(data)]:
        raise TicketError("it does not begin as a ticket does; it is another kind of file, or damaged.")
    if len(data) < PREFIX:
        raise TicketError(f"it is cut short: only {len(data)} bytes are there; fetch it again.")
    if zlib.crc32(data[:_SIGNED]) != int.from_bytes(data[_SIGNED : _SIGNED + 4], "little"):
        raise TicketError(_DAMAGED.format("prefix"))
    lengths = _LENGTHS.unpack(data[len(_MAGIC) + 1 : _SIGNED])
    end = PREFIX + sum(lengths)
    if len(data) < end:
        raise TicketError(f"it is cut short: {len(data):,} of {end:,} bytes are there; fetch it again.")
    if data[len(_MAGIC)] != FORMAT:
        raise TicketError(f"it is of format {data[len(_MAGIC)]}; this version reads only format {FORMAT}.")
    if len(data) > end:
        raise TicketError(f"it is damaged: {len(data) - end:,} bytes follow its end; fetch it again.")
    if hashlib.sha256(data[: PREFIX - 32] + data[PREFIX:]).digest() != data[PREFIX - 32 : PREFIX]:
        raise TicketError(_DAMAGED.format("contents"))
    coded, learned = PREFIX + lengths[0], PREFIX + lengths[0] + lengths[1]
    return Sections(data[PREFIX:coded], data[coded:learned], data[learned:])


_DAMAGED = "it is damaged: the checksum does not fit its {}; fetch it again."
