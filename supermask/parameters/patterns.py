"""Names of parameters given as patterns."""

from collections.abc import Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase

from supermask.errors import SupermaskError
from supermask.shown import quoted

_SHOWN = 12


def matching(patterns: Iterable[str], names: Iterable[str], option: str) -> list[str]:
    """Return the names that match any pattern (`*` and `?` as in file names), in their own order.

    Raises:
        SupermaskError: a pattern matches no name; the option is named.

    """
    # both are read several times, and an iterator would be empty the second time
    patterns, names = tuple(patterns), tuple(names)
    for pattern in patterns:
        # not fnmatch, which ignores the case of letters on Windows
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SupermaskError(
                f"{option}: {quoted(pattern)} matches no parameter; there are {_listed(names, pattern)}."
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _listed(names: tuple[str, ...], pattern: str) -> str:
    if len(names) <= _SHOWN:
        return ", ".join(names)
    # no cutoff, so that a pattern that resembles nothing still gets examples
    near = get_close_matches(pattern, names, _SHOWN, cutoff=0.0)
    return f"{len(names)}, among them {', '.join(near)}"
