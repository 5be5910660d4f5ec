"""How the loops of the coder are compiled."""

from typing import Any

import numba


def compiled(function: Any) -> Any:
    """Compile on first use, and keep the machine code where a folder for it can be written."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(nogil=True)(function)
