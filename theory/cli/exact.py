"""`supermask construct --exact`: a ticket that is a network of few bits without any error."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from supermask.data import DataSet
from supermask.errors import SupermaskError
from supermask.report import table
from supermask.versions import commit, machine, versions
from theory.cli.compare import BATCH
from theory.cli.targets import TargetNetwork
from theory.exact import BuiltExactly, IntegerInputs

PIXELS = 255
"""The largest pixel that is stored as a byte."""


@dataclass(frozen=True)
class ExactComparison:
    """A target and its exact ticket on the test set.

    Attributes:
        total: examples.
        target_correct: examples that the target classifies right.
        correct: those that the ticket does.
        disagreements: examples that the two classify differently, by the rounding of weights.
        differences: outputs of the ticket that are not those of the rounded network; 0 for an exact one.

    """

    total: int
    target_correct: int
    correct: int
    disagreements: int
    differences: int


def whole_inputs(pixels: str, data_set: DataSet | None) -> IntegerInputs:
    """Return the whole pixels from 0 to 255, as the target takes them.

    Raises:
        SupermaskError: they are normalised in a way that is not known, or not the same for all channels; or the images
            of the data set are not stored as bytes.

    """
    if data_set is None:
        if pixels != "raw":
            raise SupermaskError("How --pixels normalized are made of whole ones is not known; give --data, or raw.")
        return IntegerInputs()
    if data_set.train.images.dtype is not torch.uint8:
        raise SupermaskError(f"The images of {data_set.name} are not whole numbers, which --exact needs.")
    if pixels == "raw":
        return IntegerInputs(0, PIXELS, 1.0 / data_set.scale)
    if len(set(zip(data_set.mean, data_set.std, strict=True))) != 1:
        raise SupermaskError(f"The channels of {data_set.name} are normalised in several ways; give --pixels raw.")
    mean, std = data_set.mean[0], data_set.std[0]
    return IntegerInputs(0, PIXELS, 1.0 / (data_set.scale * std), -mean / std)


@torch.no_grad()
def compare_exactly(target: TargetNetwork, built: BuiltExactly, data_set: DataSet) -> ExactComparison:
    """Run the target, the rounded network (in int64) and the ticket (in float64) on the test set."""
    examples = data_set.test()
    target_correct = correct = disagreements = differences = 0
    for images, labels in zip(examples.images.split(BATCH), examples.labels.split(BATCH), strict=True):
        wanted = target.network(data_set.normalize(images).double()).argmax(1)
        found = built.network(images.double())
        differences += int((found != built.quantised(images.long()).double()).sum())
        target_correct += int((wanted == labels).sum())
        correct += int((found.argmax(1) == labels).sum())
        disagreements += int((wanted != found.argmax(1)).sum())
    return ExactComparison(len(examples), target_correct, correct, disagreements, differences)


@dataclass(frozen=True, eq=False)
class ExactReport:
    """What `supermask construct --exact` measured."""

    target: str
    built: BuiltExactly
    comparison: ExactComparison | None
    size: int
    seconds: float

    def values(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        built, ticket = self.built, self.built.ticket
        return {
            "target": self.target,
            "exact": built.certificate.exact,
            "certificate": asdict(built.certificate),
            "bits": built.quantised.bits,
            "inputs": asdict(built.quantised.inputs),
            "scale": built.quantised.scale,
            "widths": list(built.widths),
            "test": asdict(self.comparison) if self.comparison else None,
            "kept": ticket.kept,
            "prunable": ticket.prunable,
            "bytes": self.size,
            "seconds": round(self.seconds, 3),
            "versions": versions(),
            "machine": machine(),
            "commit": commit(),
        }

    def text(self, seed: int, data: str | None) -> str:
        """Return a table of what holds and what it takes."""
        built, certificate, ticket = self.built, self.built.certificate, self.built.ticket
        weights = sum(layer.kernel.size + layer.offset.size for layer in built.quantised.target.layers)
        inputs = built.quantised.inputs
        facts = {
            "result": "equal on every input"
            if certificate.exact
            else f"not equal: {certificate.missed:,} weights are missed, outputs by at most {certificate.upper:,.0f}",
            "proven for whole inputs": f"{inputs.low} to {inputs.high}",
            "largest sum": f"{certificate.largest:.3g}, exact in {' and '.join(certificate.exact_in)}",
            "weights and biases of the target": f"{weights:,}",
            "random weights kept": f"{ticket.kept:,} of {ticket.prunable:,} ({ticket.density:.2%})",
            "bytes of the ticket": f"{self.size:,}",
            "seconds": f"{self.seconds:.1f}",
        }
        if (found := self.comparison) is not None:
            facts |= {
                f"target correct on {data}": f"{found.target_correct:,} of {found.total:,}",
                f"ticket correct on {data}": f"{found.correct:,} of {found.total:,}",
                "classified differently, by rounding": f"{found.disagreements:,}",
                "outputs that differ from the rounded network's": f"{found.differences:,}",
            }
        head = [f"{self.target}, {built.quantised.bits} bits, exactly", f"seed {seed}"]
        return table(head, [[*fact] for fact in facts.items()])
