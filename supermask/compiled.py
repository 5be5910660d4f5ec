"""How loops are compiled: on first use, without Python's lock, and kept for later processes.

Numba keeps machine code by the source file of the function that is called from Python. Functions and tables of other
files that it takes in can change without notice, so a compiled function reaches nothing of the project outside its own
file (`tests/test_compiled.py` holds all of them to that).
"""

from typing import Any

import numba


def compiled(function: Any) -> Any:
    """Compile on first use, and keep the machine code where a folder for it can be written."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(nogil=True)(function)
