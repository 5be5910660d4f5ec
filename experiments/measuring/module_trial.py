"""One trial of a module of another package: searched for some steps, its ticket saved, loaded, applied, compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from experiments.measuring.module_catalog import Inputs, Subject
from supermask import EdgePopup, Ticket
from supermask.results import Result
from supermask.runs.folder import recorded

STEPS = 10
DENSITY = 0.5
RATE = 0.5
"""Of the learning: so high that ten steps move a mask wherever a gradient arrives."""


@dataclass(frozen=True, kw_only=True)
class TrialResult(Result):
    """What became of one module.

    Attributes:
        version: of its package.
        account: numbers of the parameters that are masked, constant, given and so on.
        moved: fraction of the mask that differs after the last step from the first mask, by parameter.
        bytes: of the ticket's file.
        equal: whether the module of the loaded ticket gives the outputs of the searched one, bit for bit.

    """

    version: str
    account: Mapping[str, int]
    moved: Mapping[str, float]
    bytes: int
    equal: bool

    @property
    def masked(self) -> float:
        """Fraction of all parameters that is masked."""
        return self.account["masked"] / sum(self.account.values())

    @property
    def still(self) -> tuple[str, ...]:
        """The masks that did not move."""
        return tuple(name for name, share in self.moved.items() if not share)


@dataclass(frozen=True)
class Trial:
    """A search over a module, and what its ticket makes of a fresh one.

    Attributes:
        subject: the module.
        seed: of its initialisation, its inputs and the search.

    """

    kind: ClassVar[type[Result]] = TrialResult

    subject: Subject
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the trial depends on besides the package."""
        return {"module": str(self.subject), "seed": self.seed, "steps": STEPS, "density": DENSITY, "rate": RATE}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> TrialResult:
        """Carry it out in seconds."""
        return recorded(TrialResult, path, self.config(), lambda _: self.measure(), device=device, resume=True)

    def measure(self) -> TrialResult:
        """Search, save, load, apply and compare; the caller's random numbers go on as they were."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model, inputs = self.subject.build(), self.subject.inputs()
            # as all networks of many blocks want it: gains that start near 0 stop the scores of their branch
            search = EdgePopup(model, density=DENSITY, seed=self.seed, gains="one", learned=self.subject.learned)
            first = search.masks()
            _train(search, inputs)
            data = search.ticket().to_bytes()
            network = Ticket.from_bytes(data).apply(self.subject.build())
        # torch's matmul takes another path where a weight asks for gradients, which changes last bits (CaiT's 4x4 maps)
        network.requires_grad_(False)
        pairs = zip(outputs(model.eval(), inputs), outputs(network.eval(), inputs), strict=True)
        return TrialResult(
            version=version(self.subject.package),
            account={role: sum(numbers.values()) for role, numbers in search.account().items()},
            moved={name: float((mask ^ first[name]).float().mean()) for name, mask in search.masks().items()},
            bytes=len(data),
            equal=all(torch.equal(*pair) for pair in pairs),
        )


def _train(search: EdgePopup, inputs: Inputs) -> None:
    targets = [torch.randn_like(output) for output in outputs(search.model, inputs)]
    optimizer = torch.optim.SGD(search.parameters(), lr=RATE, momentum=0.9)
    for _ in range(STEPS):
        optimizer.zero_grad()
        made = _tensors(_called(search.model, inputs))
        torch.stack(
            [(each - target).square().mean() for each, target in zip(made, targets, strict=True)]
        ).sum().backward()
        optimizer.step()
        search.step()


@torch.no_grad()
def outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """Return the floating tensors of what a module returns, however they are nested."""
    return _tensors(_called(model, inputs))


def _called(model: nn.Module, inputs: Inputs) -> object:
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def _tensors(made: object) -> list[Tensor]:
    if isinstance(made, Tensor):
        return [made] if made.is_floating_point() else []
    parts = made.values() if isinstance(made, Mapping) else made if isinstance(made, list | tuple) else ()
    return [tensor for part in cast("list[object]", parts) for tensor in _tensors(part)]
