"""Prune one fixed random network of integers to a network of few bits, without any error."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from tqdm.auto import tqdm

from supermask.errors import SupermaskError
from supermask.models.sequence import describe
from supermask.random.weights import checked_seed, digest
from supermask.ticket import Ticket
from supermask.versions import versions
from theory.constructions.effective import effective
from theory.constructions.prune import Pruned, prune_pair, weights_to_meet
from theory.constructions.random_pair import RandomPair, Widths, check_blocks, draw, empty_network
from theory.constructions.subset_sums import subset_width
from theory.exact.certificate import ExactCertificate, certify_exactly, check_sums
from theory.exact.quantise import IntegerInputs, Quantised, most, quantise
from theory.exact.subsets import HALF, choose_exactly
from theory.target import Matrix, read_target

SOURCE = "Kumar & Natale 2025, quantised theorem"


@dataclass(frozen=True, eq=False)
class BuiltExactly:
    """A pruned random network of integers beside its target.

    Attributes:
        network: the one masked random network, float64, with twice the target's layers; of whole inputs it makes whole
            outputs.
        ticket: the same as a Ticket.
        certificate: that the two are equal on all inputs, or how far they are apart.
        quantised: the target, of integers; `network(p) * quantised.scale` are the trained network's outputs, but for
            the rounding of its weights.
        errors: by how much each weight is missed, per layer a matrix (outputs, inputs * taps), with one column more
            where there is a bias; whole numbers.
        widths: hidden units per input of the target, per layer.

    """

    network: nn.Sequential
    ticket: Ticket
    certificate: ExactCertificate
    quantised: Quantised
    errors: tuple[Matrix, ...]
    widths: tuple[int, ...]


def construct_exact(
    target: nn.Module,
    *,
    bits: int = 8,
    inputs: IntegerInputs | None = None,
    seed: int = 0,
    width: int | None = None,
    grouped: bool = False,
    input_shape: Sequence[int] | None = None,
    progress: bool = True,
) -> BuiltExactly:
    """Round a target to few bits, and prune a random network of as few bits until it is that network exactly.

    The random network is drawn once, from the seed. Its first hops are random signs and its second hops uniform
    integers of as many bits, from -(2^(bits - 1) - 1) on. A weight that no subset of its block's integers adds up to is
    missed, and the certificate says by how much; nothing is drawn again.

    Args:
        target: what `theory.construct` takes, with max pooling alone.
        bits: of a weight, sign included, 2 to 16.
        inputs: which whole numbers the inputs are; by default pixels from 0 to 255, which the target takes as 0 to 1.
        seed: of the random network, an integer from 0 to 2**63 - 1.
        width: hidden units per input of each target layer; None chooses them so that all weights are met with
            probability 0.99.
        grouped: leave out the weights of the first hops that are always pruned.
        input_shape: of one input without the batch; by default what the target's layers tell.
        progress: show a progress bar where standard error is a terminal.

    Raises:
        SupermaskError: the target cannot be built, an argument is out of range, or a sum may pass 2^53, up to which
            float64 holds every integer.

    """
    checked_seed(seed)
    if width is not None and (not isinstance(width, int) or width < 1):
        raise SupermaskError(f"width={width} is not a number of hidden units; give an integer of at least 1.")
    largest, inputs = most(bits), IntegerInputs() if inputs is None else inputs
    quantised = quantise(read_target(target, input_shape, signed=inputs.low < 0), bits, inputs)
    check_sums(quantised)
    layers = quantised.target.layers
    halves = [(1, -1) if layer.signed else (1,) for layer in layers]
    laws = [
        Widths(width or subset_width(layer, 0.5 / largest, len(signs)), 1.0, integers=largest, constant=constant)
        for layer, signs, constant in zip(layers, halves, quantised.constants, strict=True)
    ]
    network, pairs = empty_network(quantised.target, laws, slope=0.0, grouped=grouped)
    weights, grown = draw(pairs, seed)
    pruned = _prune(pairs, grown, halves, progress=progress)
    masks: dict[str, Tensor] = {}
    for pair, found in zip(pairs, pruned, strict=True):
        masks |= pair.masks(found.hop, found.second)
    ticket = Ticket(seed=seed, weights=weights, masks=masks, digest=digest(grown), provenance={})
    ticket.apply(network, grown=grown).requires_grad_(False)
    tensors = {name: parameter.detach() for name, parameter in network.named_parameters()}
    for pair in pairs:
        check_blocks(pair, tensors)
    computed = [effective(pair.layer, pair.paths(tensors), slope=0.0) for pair in pairs]
    certificate = certify_exactly(quantised, computed)
    provenance = _provenance(quantised, laws, network, certificate)
    errors = tuple(each.errors for each in pruned)
    widths = tuple(law.width for law in laws)
    return BuiltExactly(network, replace(ticket, provenance=provenance), certificate, quantised, errors, widths)


def _prune(
    pairs: Sequence[RandomPair], grown: dict[str, Tensor], halves: Sequence[tuple[int, ...]], *, progress: bool
) -> list[Pruned]:
    total = sum(weights_to_meet(pair, signs) for pair, signs in zip(pairs, halves, strict=True))
    with tqdm(total=total, unit="weight", unit_scale=True, disable=None if progress else True, leave=False) as bar:
        return [
            prune_pair(pair, pair.paths(grown), choose_exactly, halves=signs, tolerance=HALF, advance=bar.update)
            for pair, signs in zip(pairs, halves, strict=True)
        ]


def _provenance(
    quantised: Quantised, laws: Sequence[Widths], network: nn.Sequential, certificate: ExactCertificate
) -> dict[str, Any]:
    inputs = quantised.inputs
    return {
        "algorithm": "exact",
        "source": SOURCE,
        "options": {"bits": quantised.bits, "inputs": [inputs.low, inputs.high, inputs.step, inputs.offset]},
        "widths": [law.width for law in laws],
        "scale": quantised.scale,
        "pixels": "integers",
        "versions": versions(),
        "model": {"modules": describe(network), "input_shape": list(quantised.target.input_shape)},
        "certificate": {"upper": certificate.upper, "missed": certificate.missed, "largest_sum": certificate.largest},
    }
