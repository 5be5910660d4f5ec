"""Checks of IDX files, the format of MNIST; torchvision alone would read on, or fail without naming the file.

Format: yann.lecun.com/exdb/mnist: two zero bytes, the type (8: unsigned byte), the number of dimensions, each
size as a big-endian 4-byte integer, then the elements.
"""

import math
from pathlib import Path

from supermask.errors import DataError


def header(shape: tuple[int, ...]) -> bytes:
    """Return the bytes that an IDX file of a uint8 array of this shape begins with."""
    return bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)


def check_size(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a file that cannot hold exactly a uint8 array of this shape; it is not opened."""
    found, right = path.stat().st_size, len(header(shape)) + math.prod(shape)
    if found != right:
        raise DataError(f"{path} is damaged: it is {found:,} bytes long, {right:,} are right; fetch it again.")


def check_header(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a file whose first bytes do not announce a uint8 array of this shape."""
    right = header(shape)
    with path.open("rb") as file:
        found = file.read(len(right))
    if found != right:
        raise DataError(
            f"{path} is damaged: it begins with {found.hex()}, not with {right.hex()}, the IDX header of "
            f"{' x '.join(map(str, shape))} bytes; fetch it again."
        )
