"""Deep Compression: a network is pruned, its weights share values that are trained, and all is coded in one file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import nn

from supermask.baselines.deep_compression.account import (
    LayerFacts,
    dense_bytes,
    layer_facts,
    pruned_bytes,
    quantised_bytes,
)
from supermask.baselines.deep_compression.file import Compressed, decode, encode, load, parts, restored
from supermask.baselines.deep_compression.layer import MOST_BITS, to_gaps
from supermask.baselines.deep_compression.pruning import Pruning
from supermask.baselines.deep_compression.shared import Shared
from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.baselines.rounds.engine import Round, RoundsDetails
from supermask.baselines.sparse import Sparse
from supermask.data import Examples
from supermask.errors import SupermaskError
from supermask.files import write_whole
from supermask.training import Outcome, Recipe
from supermask.training.batches import Prepared, on_device
from supermask.training.evaluation import Score, evaluate

FILE = "network.compressed"
"""Name of the file in the folder of a run."""


@dataclass(frozen=True)
class CompressionStage:
    """The size of the network after a stage, in bytes, and its test accuracy, a fraction."""

    bytes: int
    test_accuracy: float


@dataclass(frozen=True)
class CompressionDetails:
    """What Deep Compression adds to a result.

    Attributes:
        parts: bytes of each part of the file.
        stages: "dense", "pruned", "quantised" and "huffman", of which the last is the file as it is read back.
        validation_before_centroids_were_trained: validation accuracy of the clustered network, a fraction.
        layers: facts of each layer, by the name of its weight.
        rounds: of pruning and retraining.

    """

    parts: Mapping[str, int]
    stages: Mapping[str, CompressionStage]
    validation_before_centroids_were_trained: float
    layers: Mapping[str, LayerFacts]
    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class DeepCompression(Method):
    """Prune by magnitude, let few values be shared by the weights left, train those, and Huffman-code all of it.

    Han, Mao & Dally 2016. Pruning and retraining are those of `Han`: weights that are left stay where they are. Those
    of each layer are then clustered by k-means, begun with centroids evenly on [min, max] (section 3.2), and the
    centroids are trained by SGD with the sums of their weights' gradients (section 3.3). The file holds codebooks of
    32-bit numbers, and Huffman codes of the indices and of the differences between places (sections 2 and 4); its size
    is the size of the network, and the accuracy is that of the network read back from it. In a layer that needs filler
    zeros, zero is one of its shared values.

    The paper's 8 and 5 bits are those of its ImageNet networks and of LeNet-5 (table 3); its LeNet-300-100 has 6 (table
    2), and both have differences of 5 bits in all layers. Rounds, learning rates and lengths of training are not in it.

    Attributes:
        rate: fraction of the weights left that a round of pruning removes.
        layers: "deviation" is one ranking of all weights by multiples of their layer's deviation, "layer" keeps the
            same fraction of each layer, "published" those of the paper's tables 2 and 3, for lenet_300_100 and
            lenet5_caffe.
        slower: the learning rate of retraining over the recipe's (Han et al. 2015, section 4.1).
        retraining: optimizer steps of each retraining, and of training the centroids, over the recipe's.
        centroid_rate: learning rate of SGD while the centroids are trained; their gradients are large sums.
        conv_bits: of an index into the codebook of a convolution, from 1 to 15.
        fc_bits: of an index into the codebook of another layer.
        conv_gap_bits: of a difference between kept weights of a convolution.
        fc_gap_bits: of a difference between kept weights of another layer.

    """

    name: ClassVar[str] = Shared.name
    details_kind: ClassVar[type] = CompressionDetails

    rate: float = 0.5
    layers: Literal["deviation", "layer", "published"] = "deviation"
    slower: float = 0.1
    retraining: float = 1.0
    centroid_rate: float = 1e-4
    conv_bits: int = 8
    fc_bits: int = 5
    conv_gap_bits: int = 8
    fc_gap_bits: int = 5

    def __post_init__(self) -> None:
        for option in ("conv_bits", "fc_bits", "conv_gap_bits", "fc_gap_bits"):
            if not 1 <= getattr(self, option) <= MOST_BITS:
                raise SupermaskError(
                    f"{self.name}: {option}={getattr(self, option)} is out of range; give 1 to {MOST_BITS} bits."
                )
        for option in ("slower", "retraining", "centroid_rate"):
            if not 0.0 < getattr(self, option) < math.inf:
                raise SupermaskError(f"{self.name}: {option}={getattr(self, option)} is not positive and finite.")
        if self.layers not in ("deviation", "layer", "published"):
            raise SupermaskError(f"{self.name}: unknown layers={self.layers!r}; known are deviation, layer, published.")
        assert self.pruning.ladder  # which refuses a rate that is out of range

    @property
    def pruning(self) -> Pruning:
        """The rounds of pruning and retraining."""
        return Pruning(
            self.rate,
            self.slower,
            "deviation" if self.layers == "deviation" else "layer",
            published=self.layers == "published",
            retraining=self.retraining,
        )

    def shared(self) -> Method:
        """Return the method with the options that its rounds do not depend on at their defaults."""
        return DeepCompression(self.rate, self.layers, self.slower, self.retraining)

    def run(self, context: RunContext) -> MethodResult:
        """Prune, cluster, train and code."""
        pruned = self.pruning.run(context)
        assert isinstance(pruned.subject, Sparse)
        network = self.clustered(context, pruned.subject)
        outcome = context.train(network, recipe=self.centroid_training(context, pruned.subject.ticket().density))
        contents = Compressed.of(network, self._per_layer(network, self.conv_gap_bits, self.fc_gap_bits))
        read_back = _written(contents, context)
        measured = replace(
            outcome,
            validation=_score(read_back, context.data.validation, context),
            test=_score(read_back, context.data.test(), context),
            train=None,  # these were not of the network that was read back
            last_test=None,
        )
        details = self._details(network, contents, pruned, outcome, measured)
        return MethodResult(network, measured, pruned.scores, details, file=FILE)

    def clustered(self, context: RunContext, pruned: Sparse) -> Shared:
        """Return the pruned network with its weights clustered."""
        bits = self._per_layer(pruned, self.conv_bits, self.fc_bits)
        gap_bits = self._per_layer(pruned, self.conv_gap_bits, self.fc_gap_bits)
        clusters = {}
        for name, mask in pruned.masks().items():
            places = mask.reshape(-1).nonzero().reshape(-1).cpu().numpy()
            clusters[name] = (1 << bits[name]) - bool(to_gaps(places, gap_bits[name]).fillers.any())
        return Shared(context.build().to(context.device), pruned.ticket(), pruned.model.state_dict(), clusters)

    def centroid_training(self, context: RunContext, density: float) -> Recipe:
        """Return how the centroids are trained."""
        return replace(
            context.recipe,
            iterations=self.pruning.steps(context),
            optimizer="sgd",
            learning_rate=self.centroid_rate,
            decay="constant",
            warm_up=0,
            dropout=context.recipe.dropout * math.sqrt(density),
        )

    def _per_layer(self, network: Sparse, conv: int, other: int) -> dict[str, int]:
        return {name: conv if len(slot.shape) > 2 else other for name, slot in network.prunable.items()}

    def _details(
        self, network: Shared, contents: Compressed, pruned: MethodResult, trained: Outcome, read_back: Outcome
    ) -> CompressionDetails:
        """Return the parts of the file, and bytes and accuracies of each stage."""
        assert isinstance(pruned.details, RoundsDetails)
        bits = self._per_layer(network, self.conv_bits, self.fc_bits)
        kept = {name: int(mask.sum()) for name, mask in network.masks().items()}
        sizes = parts(contents)
        return CompressionDetails(
            parts=sizes,
            stages={
                "dense": CompressionStage(dense_bytes(network.model), pruned.details.rounds[0].test_accuracy),
                "pruned": CompressionStage(pruned_bytes(contents, kept), pruned.outcome.test.accuracy),
                "quantised": CompressionStage(quantised_bytes(contents, bits), trained.test.accuracy),
                "huffman": CompressionStage(sum(sizes.values()), read_back.test.accuracy),
            },
            validation_before_centroids_were_trained=trained.history[0]["validation_accuracy"],
            layers={name: layer_facts(layer, kept[name], bits[name]) for name, layer in contents.layers.items()},
            rounds=pruned.details.rounds,
        )


def _written(contents: Compressed, context: RunContext) -> nn.Module:
    """Write the file, where there is a folder for it, and return a network read from it."""
    data, model = encode(contents), context.build()
    if context.folder is None:
        return restored(decode(data), model).to(context.device)
    path = context.folder / FILE
    write_whole(path, data)
    return load(path, model).to(context.device)


def _score(model: nn.Module, examples: Examples, context: RunContext) -> Score:
    return evaluate(model, Prepared(context.data, on_device(examples, context.device), context.recipe))
