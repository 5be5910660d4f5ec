"""Which layer feeds which batch norm, and nothing else."""

from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.graph import channel_graph

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


def scaled_norms(model: nn.Module) -> dict[str, BatchNorm]:
    """Return the batch-norm layers that have a scale for each channel, by name.

    Raises:
        SupermaskError: there is none.

    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BatchNorm) and module.weight is not None
    }
    if not found:
        raise SupermaskError(
            "The network has no batch norm with scales, by which channels are chosen; choose one that has, such as"
            " resnet20, or another method."
        )
    return found


def feeders(model: nn.Module, example: Tensor) -> dict[str, tuple[str, Tensor]]:
    """Return, by name of a batch norm, the layer that feeds it and where in it each of that layer's channels arrives.

    Only layers count that nothing but this batch norm reads, each channel to one channel and nothing added: a channel
    that the batch norm makes zero is then useless in the layer too.

    Args:
        model: left as it was.
        example: an input of the model.

    Raises:
        SupermaskError: the model cannot be written as one graph by `torch.export`.

    """
    graph = channel_graph(model, example)
    norms = {name: f for name, f in graph.followers.items() if isinstance(model.get_submodule(name), BatchNorm)}
    given: dict[str, Tensor] = {name: layer.rows for name, layer in graph.layers.items()}
    given |= {name: f.rows for name, f in graph.followers.items() if name not in norms}  # depthwise convolutions
    return {
        norm: (layer, read.columns.argsort())
        for norm, read in norms.items()
        for layer, rows in given.items()
        if read.columns.sort().values.equal(rows) and graph.read_by_alone(rows, norm)
    }
