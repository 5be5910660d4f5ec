"""Published experiments, every setting of them with its source, and what the papers leave unsaid."""

from collections.abc import Mapping

from supermask.errors import SupermaskError
from supermask.runs.protocols.frankle_carbin import FRANKLE_CARBIN
from supermask.runs.protocols.linear_mode import BESIDE, LINEAR_MODE
from supermask.runs.protocols.protocol import Protocol, Reported, Setting
from supermask.runs.protocols.sanity import SANITY
from supermask.runs.protocols.tables import TABLES, TEXTS
from supermask.shown import quoted

__all__ = ["PROTOCOLS", "REPORTED", "Protocol", "Reported", "Setting", "named_protocol"]

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol for protocol in (*FRANKLE_CARBIN, *LINEAR_MODE, *SANITY, *TABLES)
}
REPORTED: Mapping[str, Reported] = {each.name: each for each in (*BESIDE, *TEXTS)}
"""What cannot be run here: it is printed, beside what can where that is of the same table."""


def named_protocol(name: str) -> Protocol:
    """Return the protocol of that name.

    Raises:
        SupermaskError: there is none, or it cannot be run here.

    """
    if name in REPORTED:
        raise SupermaskError(f"{name} is text alone: {REPORTED[name].why}")
    if name not in PROTOCOLS:
        raise SupermaskError(f"Unknown protocol {quoted(name)}; known are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
