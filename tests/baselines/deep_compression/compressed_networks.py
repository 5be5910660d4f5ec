"""Small networks whose weights are shared, without any training."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from supermask.baselines.deep_compression.file import Compressed
from supermask.baselines.deep_compression.layer import CodedLayer
from supermask.baselines.deep_compression.shared import Shared, Sharing
from supermask.baselines.sparse import whole_ticket
from supermask.parameters.parameters import survey


def with_everything():
    """A network with convolutions, batch norm, biases and a tied weight."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 6)
    )
    model.append(nn.Linear(6, 6, bias=False))
    model[-1].weight = model[-2].weight
    return model


def shared(model, density=0.5, clusters=4, seed=0):
    """Return the network with random masks, and clusters of its random weights."""
    generator = torch.Generator().manual_seed(seed)
    ticket = whole_ticket(model, seed=seed)
    masks = {name: torch.rand(mask.shape, generator=generator) < density for name, mask in ticket.masks.items()}
    trained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, slot in survey(model).items():
        if slot.kind in ("bias", "norm"):
            trained[name] = torch.rand(slot.shape, generator=generator)
    ticket = replace(ticket, masks=masks)
    return Shared(model, ticket, trained, dict.fromkeys(masks, clusters))


def coded(shape, places, values, gap_bits, dtype=torch.float32):
    """Return a coded layer whose weights at some places have these values, and the weight itself."""
    codebook, indices = np.unique(np.array(values, np.float32), return_inverse=True)
    tensor = torch.from_numpy(codebook).to(dtype)
    sharing = Sharing(tensor, torch.from_numpy(indices.astype(np.int64)), torch.tensor(places, dtype=torch.int64))
    weight = torch.zeros(shape, dtype=dtype)
    weight.view(-1)[sharing.places] = tensor[sharing.indices]
    return CodedLayer.of(tuple(shape), sharing, gap_bits), weight


def some_contents():
    """Return contents with an ordinary layer, an empty one, one without weights, a lone weight, and other tensors."""
    layers = {
        "a": coded((5, 9), [0, 3, 17, 44], [1.5, -2.0, 1.5, 0.25], 2)[0],
        "none left": coded((2, 3), [], [], 5)[0],
        "no weights": coded((0, 3), [], [], 5)[0],
        "one": coded((1,), [0], [7.0], 5)[0],
        "one value": coded((40,), [1, 2, 39], [3.0, 3.0, 3.0], 3)[0],
    }
    rest = {"b": torch.tensor([1.0, -0.0]), "count": torch.tensor(3), "flags": torch.tensor([True, False])}
    return Compressed(layers, rest)


def bits_of(tensor):
    """Return the bytes of a tensor, which tell -0 from +0."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist()
