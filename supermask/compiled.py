"""How loops are compiled: on first use, without Python's lock, and kept for later processes.

Numba keeps machine code by the source file of the function that is called from Python. Functions and tables of other
files that it takes in can change without notice, so a compiled function reaches nothing of the project outside its own
file (`tests/test_compiled.py` holds all of them to that).
"""

from functools import update_wrapper
from threading import Lock
from typing import Any

_MAKING = Lock()


def compiled(function: Any) -> Any:
    """Compile on first use, and keep the machine code where a folder for it can be written."""
    return _Compiled(function)


class _Compiled:
    """A function that is compiled when it is called: numba takes a tenth as long to import as PyTorch."""

    def __init__(self, function: Any) -> None:
        update_wrapper(self, function)
        self._function, self._machine = function, None

    def __call__(self, *arguments: Any) -> Any:
        if self._machine is None:
            with _MAKING:
                _compile(self._function.__globals__)
        return self._machine(*arguments)  # type: ignore[misc]


def _compile(names: dict[str, Any]) -> None:
    """Compile all functions of a file, which may call each other and must not find what only Python can call."""
    waiting = {name: value for name, value in names.items() if isinstance(value, _Compiled)}
    made = {name: _machine(each._function) for name, each in waiting.items()}
    names.update(made)
    for name, each in waiting.items():  # last: another thread may call one as soon as it is there
        each._machine = made[name]


def _machine(function: Any) -> Any:
    import numba

    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(nogil=True)(function)
