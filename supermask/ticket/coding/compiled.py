"""How the loops of the coder are compiled.

The machine code that is kept goes by the date of the file of its loop. Loops take in functions and tables of
`range_coder` and `logistic`: whoever changes those must touch `counted` and `surroundings` too.
"""

from typing import Any

import numba


def compiled(function: Any) -> Any:
    """Compile on first use, and keep the machine code where a folder for it can be written."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(nogil=True)(function)
