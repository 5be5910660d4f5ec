"""Text that a file or a user wrote, made fit to be shown: nothing in it steers a terminal, and it is not long."""

import reprlib
from typing import Any

LONGEST = 300
"""Characters of a value that a message quotes: three lines of a terminal."""


def printable(text: str) -> str:
    r"""Return text in which what cannot be seen is escaped as in Python: controls, bidi overrides, lone surrogates.

    "\x1b[2J" would clear a terminal, and U+202E would show the rest of a line backwards.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return text of at most so many characters, with dots for what was cut out of its middle."""
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def quoted(value: Any) -> str:
    """Return a value as Python writes it, shortened, however large or deep it is."""
    return shortened(printable(_SHORT.repr(value)))


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 3, 8, 8
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80
