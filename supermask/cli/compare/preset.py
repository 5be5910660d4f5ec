"""A published protocol as what the options of a comparison start from."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from supermask.baselines.sparse import whole_ticket
from supermask.cli.grid import SearchBesidesDensity
from supermask.cli.method_options import default_options
from supermask.models import build
from supermask.runs import Job
from supermask.runs.folder import flat
from supermask.runs.protocols import Protocol, named_protocol


def asked_protocol(arguments: Sequence[str]) -> str | None:
    """Return the name after --protocol, if it is there."""
    # by hand, because the protocol sets the defaults that the parser starts from
    for place, argument in enumerate(arguments):
        if argument.startswith("--protocol="):
            return argument.partition("=")[2]
        if argument == "--protocol" and place + 1 < len(arguments):
            return arguments[place + 1]
    return None


def preset(name: str) -> dict[str, Any]:
    """Return the options of a comparison that follows the protocol of that name.

    Raises:
        SupermaskError: there is none.

    """
    protocol = named_protocol(name)
    job = protocol.job
    shared = {part.name: getattr(job.search, part.name) for part in fields(SearchBesidesDensity)}
    return {
        "protocol": name,
        "methods": job.method,
        "seeds": protocol.trials,
        "model": job.model,
        "data": job.data,
        "validation": job.validation,
        "initial": job.initial,
        "density": ",".join(map(str, densities(protocol))),
        "recipe": job.recipe,
        "search": SearchBesidesDensity(**shared),
        "options": replace(default_options(), **{job.method: job.algorithm}),
    }


def densities(protocol: Protocol) -> list[float]:
    """Return the fractions of the prunable weights that the protocol asks for: those of its rounds, or its own."""
    ticket = whole_ticket(build(protocol.job.model), seed=0, dense=protocol.job.search.dense)
    shapes = {name: ticket.weights[name].shape for name in ticket.masks}
    return protocol.densities(shapes)


def departures(protocol: Protocol, job: Job) -> list[str]:
    """Return in words how a job departs from the protocol's, but for its seed and density."""
    fixed = replace(protocol.job, seed=job.seed, search=replace(protocol.job.search, density=job.search.density))
    published, here = flat(fixed.config()), flat(job.config())
    return [
        f"{key} is {here.get(key)}, not {published.get(key)}"
        for key in {**published, **here}
        if published.get(key) != here.get(key)
    ]
