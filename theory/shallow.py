"""One layer more than the target: a random network of L + 1 layers for a target of L (Burkholz 2022).

The first layer of the target takes two random layers, blocks of hidden units as in `constructions.random_pair`. The
second of them has several copies of each hidden unit of the target, with paths of their own, which all compute nearly
the same. From then on no layer between is needed: a weight is a subset sum over the random weights that read the copies
of its input, for each copy of its output. Biases are random everywhere; a unit whose weights are all pruned and whose
bias is not is a constant, and a bias of the target is a subset sum over the weights that read constants.

The certificate follows the worst copy of each unit. With h the target's hidden tensor and d_j the largest difference
of a copy of its unit j, the sums S over copies that stand for a layer W, b move copy a of output i by

    sum_j (sum_k S_ia,jk - W_ij) h_j + sum_jk S_ia,jk (difference of copy k) + (c_ia - b_i),

so that |difference of i| <= |E| |h| + M d + |c - b| with E_ij the largest |sum_k S_ia,jk - W_ij| and M_ij the largest
sum_k |S_ia,jk| of the copies a. Differences grow by the norm of M, which cancels nothing, and not by that of W.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.models.sequence import describe
from supermask.models.wired import wired
from supermask.random.distributions import Fans, Uniform
from supermask.random.weights import RandomWeight, digest, grow_all
from supermask.ticket import Ticket
from supermask.versions import versions
from theory.ascent import search_from_below
from theory.balance import balanced
from theory.build import check_options, chosen_domain
from theory.certificate import Certificate, LayerBound
from theory.constructions.effective import Effective, effective
from theory.constructions.prune import PathProblem, prune_pair
from theory.constructions.random_pair import Mask, RandomPair, check_blocks, check_memory
from theory.constructions.subset_sums import choose_subsets, subset_width
from theory.domains import Domain
from theory.norms import SLACK, Norm, constant_norm, operator_norm
from theory.precision import FLOAT64
from theory.reading import check_reading
from theory.rounding import layer_rounding
from theory.target import FixedStep, Matrix, Target, TargetLayer, read_target

NAME = "one_more_layer"
SOURCE = "Burkholz 2022, L + 1 layers"


@dataclass(frozen=True, eq=False)
class BuiltShallow:
    """A pruned random network of one layer more than its target.

    Attributes:
        network: the one masked random network, float64.
        ticket: the same as a Ticket.
        certificate: how far the two are apart; the target norms of its layers are those by which differences grow.
        epsilon: the distance that was asked for.
        errors: by how much each weight of the target is missed by the worst copy, per layer a matrix (outputs, inputs),
            with one column more where there is a bias.
        widths: hidden units per input of the first layer's target, then copies of each hidden unit, layer by layer.
        target: as it was read: layers in float64.

    """

    network: nn.Sequential
    ticket: Ticket
    certificate: Certificate
    epsilon: float
    errors: tuple[Matrix, ...]
    widths: tuple[int, ...]
    target: Target

    @property
    def within(self) -> bool:
        """Whether the random network is proven to contain the target within epsilon."""
        return self.certificate.upper <= self.epsilon


@dataclass(frozen=True)
class _Stage:
    """One random layer, for one layer of the target but the first.

    Attributes:
        layer: of the target.
        name: of its module.
        scale: its weights are uniform on [-scale, scale].
        copies: of each input.
        constants: units beside them that are constants.
        copied: copies of each output.
        added: constants among the outputs.

    """

    layer: TargetLayer
    name: str
    scale: float
    copies: int
    constants: int
    copied: int
    added: int

    @property
    def rows(self) -> int:
        """Copies of all outputs."""
        return self.layer.outputs * self.copied

    @property
    def columns(self) -> int:
        """Copies of all inputs."""
        return self.layer.inputs * self.copies

    def weights(self) -> dict[str, RandomWeight]:
        """Return what the random tensors are made of, by parameter name."""
        rows, columns = self.rows + self.added, self.columns + self.constants
        fans = Fans(columns, rows)
        return {
            f"{self.name}.weight": RandomWeight((rows, columns), Uniform(1.0), fans, scale=self.scale),
            f"{self.name}.bias": RandomWeight((rows,), Uniform(1.0), fans),
        }

    def prune(self, second: Matrix, constants: Matrix, tolerance: float) -> Mask:
        """Return which weights stay, (rows, columns), from all of them and what the constants are."""
        kernel = self.layer.kernel[:, :, 0, 0]
        mask = np.zeros(second.shape, np.bool_)
        for unit in range(self.layer.inputs):
            place = slice(unit * self.copies, (unit + 1) * self.copies)
            self._meet(mask, second, place, np.ones(self.copies), kernel[:, unit], tolerance)
        if self.layer.bias is not None:
            self._meet(mask, second, slice(self.columns, None), constants, self.layer.bias, tolerance)
        return mask

    def _meet(
        self, mask: Mask, second: Matrix, place: slice, strength: Matrix, wanted: Matrix, tolerance: float
    ) -> None:
        usable = np.flatnonzero(strength)
        tried = second[: self.rows, place][:, usable]
        kept, _ = choose_subsets(
            PathProblem(strength[usable], tried, wanted.repeat(self.copied), self.scale), tolerance
        )
        mask[: self.rows, place][:, usable] = kept

    def computes(self, second: Matrix, constants: Matrix) -> "_Worst":
        """Return what the worst copies of the masked layer compute."""
        assert not second[self.rows :].any(), "a constant reads something"
        shape = (self.layer.outputs, self.copied, self.layer.inputs, self.copies)
        weights, of_bias = second[: self.rows, : self.columns].reshape(shape), second[: self.rows, self.columns :]
        offset = (of_bias @ constants).reshape(shape[:2])
        apart = np.abs(weights.sum(-1) - self.layer.kernel[:, None, :, 0, 0]).max(axis=1)
        return _Worst(
            errors=apart,
            mass=np.abs(weights).sum(-1).max(axis=1),
            offset_errors=np.abs(offset - self.layer.offset[:, None]).max(axis=1),
            offset_mass=(np.abs(of_bias) @ constants).reshape(shape[:2]).max(axis=1),
            terms=max(int(np.count_nonzero(row)) for row in second),
            outgoing=float(np.abs(second).sum(axis=1).max()),
        )


@dataclass(frozen=True, eq=False)
class _Worst:
    """What the worst copies of a masked layer compute: E, M and |c - b|, and the sizes behind its rounding."""

    errors: Matrix
    mass: Matrix
    offset_errors: Matrix
    offset_mass: Matrix
    terms: int
    outgoing: float


def construct_shallow(
    target: nn.Module,
    epsilon: float,
    *,
    seed: int = 0,
    width: int | None = None,
    radius: float = 1.0,
    domain: Domain | None = None,
    norm: Norm = "l2",
) -> BuiltShallow:
    """Prune a random network of L + 1 layers to a target of L.

    The random network is drawn once, from the seed. If it does not contain the target within epsilon, the certificate
    says so; nothing is drawn again. Depth is what it saves: a weight between two hidden layers takes as many random
    weights as the square of the number of copies.

    Args:
        target: a chain of at least two Linear layers with a ReLU between each two.
        epsilon: largest difference wanted, in the norm of the outputs, over the domain of inputs.
        seed: of the random network, an integer from 0 to 2**63 - 1.
        width: hidden units per input of the first layer, and copies of each hidden unit; None chooses them.
        radius: of the ball of inputs, where no domain is given.
        domain: where the inputs are (`theory.domains`); what is known near points is not used.
        norm: "l2" or "linf", of inputs and outputs.

    Raises:
        SupermaskError: the target is no such chain, or an argument is out of range.

    """
    check_options(epsilon, width, norm, torch.float64, seed, 1.0)
    domain = chosen_domain(domain, radius)
    read = balanced(read_target(target, domain.shape, signed=domain.signed), torch.float64)
    _check_chain(read)
    size = domain.size(read.input_shape, norm)
    check_reading(target, read, domain, norm)
    tolerances, pair, stages = _plan(read, epsilon, size, norm, width)
    network, weights = _random_network(read, pair, stages)
    grown = grow_all(weights, seed)
    masks = _prune(pair, stages, grown, tolerances)
    provenance = {
        "algorithm": NAME,
        "source": SOURCE,
        "options": {"epsilon": epsilon, "domain": str(domain), "norm": norm},
        "widths": [pair.width, *(stage.copies for stage in stages)],
        "scales": [pair.scale, *(stage.scale for stage in stages)],
        "versions": versions(),
        "model": {"modules": describe(network), "input_shape": list(read.input_shape)},
    }
    ticket = Ticket(seed=seed, weights=weights, masks=masks, digest=digest(grown), provenance=provenance)
    ticket.apply(network, grown=grown).requires_grad_(False)  # which checks that they are what was drawn
    worst = _computed(pair, stages, network)
    bounds = _bounds(read, worst, size, norm)
    parts = [network[:3], *(network[place : place + 1] for place in range(4, len(network), 2))]
    lower = search_from_below(read, network, [_run(part) for part in parts], domain=domain, norm=norm, seed=seed)
    certificate = Certificate(bounds[-1].difference, lower, norm, size, tuple(bounds), domain)
    told = {"upper": certificate.upper if math.isfinite(certificate.upper) else None, "lower": certificate.lower}
    return BuiltShallow(
        network=network,
        ticket=replace(ticket, provenance={**provenance, "certificate": told}),
        certificate=certificate,
        epsilon=epsilon,
        errors=tuple(
            each.errors if layer.bias is None else np.column_stack([each.errors, each.offset_errors])
            for layer, each in zip(read.layers, worst, strict=True)
        ),
        widths=(pair.width, *(stage.copies for stage in stages)),
        target=read,
    )


def _check_chain(target: Target) -> None:
    kinds = [node.operation for node in target.nodes]
    plain = all(
        isinstance(each, TargetLayer) and not each.convolutional
        if place % 2 == 0
        else isinstance(each, FixedStep) and type(each.module) is nn.ReLU
        for place, each in enumerate(kinds)
    )
    if not plain or len(kinds) % 2 == 0 or len(kinds) < 3:
        raise SupermaskError(f"{NAME} is for chains of at least two Linear layers with a ReLU between each two.")


def _plan(
    target: Target, epsilon: float, size: float, norm: Norm, width: int | None
) -> tuple[list[float], RandomPair, list[_Stage]]:
    """Return the error that each weight of a layer may have, and the random layers, chosen from the last one on.

    Each layer may add epsilon / 2l. Differences grow by M, whose entries are at most the sum of half of the copies'
    weights, roughly; this is a plan, and the certificate is what holds.
    """
    sizes = [size]
    for layer in target.layers:
        sizes.append(operator_norm(layer, layer.kernel, norm) * sizes[-1] + constant_norm(layer, layer.offset, norm))
    behind, copied, added = 1.0, 1, 0
    tolerances: list[float] = []
    stages: list[_Stage] = []
    for number, (layer, before) in reversed(list(enumerate(zip(target.layers, sizes, strict=False)))):
        ones = np.ones(layer.kernel.shape)
        grown, biases = operator_norm(layer, ones, norm), bool(layer.bias is not None)
        moved = grown * before + biases * constant_norm(layer, np.ones(layer.outputs), norm)
        tolerance = max(epsilon / (2 * len(target.layers)) / max(moved * behind, 1e-300), 1e-200)
        scale = 2.0 * max(float(np.abs(layer.kernel).max()), float(np.abs(layer.offset).max()), 1e-300)
        tolerances.insert(0, tolerance)
        if number == 0:
            rows = layer.outputs * copied + added
            bias = None if layer.bias is None else _copied(layer.bias, copied, rows)
            first = replace(layer, kernel=_copied(layer.kernel, copied, rows), bias=bias, mass=None, norms=0)
            units = width or subset_width(first, tolerance / scale, 1 + layer.signed)
            return tolerances, RandomPair(first, units, scale, grouped=False, first="0", second="2"), stages
        sums = max(2.0, layer.kernel.size * copied * scale / tolerance)
        copies = width or math.ceil(math.log2(sums)) + 3  # as in `subset_width`, but every copy can be used
        alone = replace(layer, kernel=np.zeros((layer.outputs * copied, 1, 1, 1)))  # the block of a bias
        constants = biases * (width or subset_width(alone, tolerance / scale, 1))
        stages.insert(0, _Stage(layer, str(2 + 2 * number), scale, copies, constants, copied, added))
        behind *= copies * scale / 2.0 * grown
        copied, added = copies, constants
    raise AssertionError("a target has a first layer")


def _copied(values: Matrix, copies: int, rows: int) -> Matrix:
    """Return each row so many times, and zeros up to so many rows."""
    found = np.zeros((rows, *values.shape[1:]))
    found[: len(values) * copies] = values.repeat(copies, axis=0)
    return found


def _random_network(
    target: Target, pair: RandomPair, stages: Sequence[_Stage]
) -> tuple[nn.Sequential, dict[str, RandomWeight]]:
    """Return the module without its weights, and what these are made of."""
    rows = pair.layer.outputs
    weights = {**pair.weights(), f"{pair.second}.bias": RandomWeight((rows,), Uniform(1.0), Fans(pair.hidden, rows))}
    if f"{pair.first}.bias" not in weights:  # random biases everywhere
        weights[f"{pair.first}.bias"] = RandomWeight((pair.hidden,), Uniform(1.0), Fans(pair.layer.reads, pair.hidden))
    for stage in stages:
        weights |= stage.weights()
    check_memory(weights, "give a smaller width")
    sizes = [target.layers[0].inputs, pair.hidden, rows, *(stage.rows + stage.added for stage in stages)]
    modules: list[nn.Module] = []
    with torch.device("meta"):  # the ticket brings the weights
        for inputs, outputs in pairwise(sizes):
            modules += [nn.Linear(inputs, outputs), nn.ReLU()]
    chain = [(place,) for place in range(len(modules) - 1)]
    network = wired(modules[:-1], chain, target.input_shape).double()
    empty = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in network.state_dict().items()}
    network.load_state_dict(empty, assign=True)
    return network, weights


def _prune(
    pair: RandomPair, stages: Sequence[_Stage], grown: Mapping[str, Tensor], tolerances: Sequence[float]
) -> dict[str, Tensor]:
    halves = (1, -1) if pair.layer.signed else (1,)
    found = prune_pair(
        pair, pair.paths(grown), choose_subsets, halves=halves, tolerance=tolerances[0], advance=lambda _: None
    )
    masks = pair.masks(found.hop, found.second)
    masks.setdefault(f"{pair.first}.bias", torch.zeros(pair.hidden, dtype=torch.bool))
    before = pair.second
    for stage, tolerance in zip(stages, tolerances[1:], strict=True):
        first = len(grown[f"{before}.bias"]) - stage.constants
        constants = grown[f"{before}.bias"][first:].double().numpy().clip(min=0.0)
        mask = stage.prune(grown[f"{stage.name}.weight"].double().numpy(), constants, tolerance)
        bias = torch.zeros(first + stage.constants, dtype=torch.bool)
        bias[first:] = torch.from_numpy(mask[:, stage.columns :].any(axis=0))
        masks |= {f"{before}.bias": bias, f"{stage.name}.weight": torch.from_numpy(mask)}
        before = stage.name
    masks[f"{before}.bias"] = torch.zeros(len(grown[f"{before}.bias"]), dtype=torch.bool)
    return masks


def _computed(pair: RandomPair, stages: Sequence[_Stage], network: nn.Sequential) -> list[_Worst]:
    """Return what the worst copies compute, from the network's own masked tensors."""
    tensors = {name: parameter.detach() for name, parameter in network.named_parameters()}
    check_blocks(pair, tensors)
    found = [_first(pair, effective(pair.layer, pair.paths(tensors), slope=0.0), stages[0])]
    before = pair.second
    for stage in stages:
        bias = tensors[f"{before}.bias"].numpy()
        assert not bias[: len(bias) - stage.constants].any(), "a copy has a bias of its own"
        constants = bias[len(bias) - stage.constants :].clip(min=0.0)
        found.append(stage.computes(tensors[f"{stage.name}.weight"].numpy(), constants))
        before = stage.name
    assert not tensors[f"{before}.bias"].any(), "an output has a bias of its own"
    return found


def _first(pair: RandomPair, found: Effective, behind: _Stage) -> _Worst:
    over, under = found.missed(pair.layer)
    apart = np.abs(over) if under is None else np.maximum(np.abs(over), np.abs(under))

    def worst(values: Matrix) -> Matrix:
        """Return the largest of the copies of each output, without the constants behind them."""
        largest: Matrix = values[: behind.columns].reshape(-1, behind.copies, *values.shape[1:]).max(axis=1)
        return largest

    return _Worst(
        errors=worst(apart[:, :, 0, 0]),
        mass=worst(found.mass[:, :, 0, 0]),
        offset_errors=worst(np.abs(found.offset - pair.layer.offset)),
        offset_mass=worst(found.offset_mass),
        terms=found.terms,
        outgoing=found.outgoing,
    )


def _bounds(target: Target, worst: Sequence[_Worst], size: float, norm: Norm) -> list[LayerBound]:
    """Return the recursion of the certificate, layer by layer; a ReLU moves nothing further apart."""
    bounds: list[LayerBound] = []
    difference = 0.0
    for layer, found in zip(target.layers, worst, strict=True):
        mass = found.mass[:, :, None, None]
        grows = operator_norm(layer, mass, norm)
        error = operator_norm(layer, found.errors[:, :, None, None], norm)
        offset = constant_norm(layer, found.offset_errors, norm)
        reach = size + difference
        paths = found.terms, found.outgoing, found.terms  # no entry gathers more than all
        sizes = Effective(layer.kernel, None, layer.offset, mass, found.offset_mass, *paths)
        rounding = layer_rounding(layer, sizes, reach, norm, FLOAT64)
        difference = (grows * difference + error * reach + offset + rounding) * SLACK
        difference = math.inf if math.isnan(difference) else difference  # infinity times zero
        size = operator_norm(layer, layer.kernel, norm) * size + constant_norm(layer, layer.offset, norm)
        size = max(size * SLACK, size + 2.0 * rounding)
        bounds.append(LayerBound(error, grows, offset, difference, size))
    return bounds


def _run(part: nn.Module) -> Callable[[TargetLayer, Tensor], Tensor]:
    """Return a part of the network as what stands for a layer of the target in `Target.run`."""
    return lambda layer, x: part(x)
