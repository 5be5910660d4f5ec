"""What a step costs, by count: launches on a GPU, on ResNet-50's shapes and by kernels that launch nothing; memory."""

from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from supermask import EdgePopup, models
from supermask.masking.kernels import _LAUNCH_BOUND
from supermask.masking.kernels.top_k import TopK, Weights

with_triton = pytest.mark.skipif(find_spec("triton") is None, reason="no Triton on this platform")


class Counted:
    """Takes the place of a kernel: its launches are counted."""

    def __init__(self, name, launched):
        self._name, self._launched = name, launched

    def __getitem__(self, grid):
        assert len(grid) == 1
        return lambda *_, **__: self._launched.append(self._name)


class Operations(TorchDispatchMode):
    """Counts what torch would launch: every operation but those that only make room."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, called, types, arguments=(), options=None):
        name = called.overloadpacket.__name__
        if name not in ("empty", "empty_like", "empty_strided", "view", "detach", "alias"):
            self.names.append(name)
        return called(*arguments, **(options or {}))


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that were launched since, in order."""
    from supermask.masking.kernels import gpu

    names = []
    for module in ("gpu_kernels", "gpu_writes"):
        kernels = getattr(gpu, module)
        kinds = ("count_window", "decide", "histogram", "count_ties", "find_cut", "write", "mask_weights")
        made = {kind: Counted(kind, names) for kind in (*kinds, "straight_through") if hasattr(kernels, kind)}
        monkeypatch.setattr(gpu, module, SimpleNamespace(**made))
    return names


@pytest.fixture(scope="module")
def layers():
    """The weights of ResNet-50, without memory."""
    with torch.device("meta"):
        network = models.build("torchvision:resnet50", input_shape=(3, 224, 224), classes=1000)
    return [weight.detach() for weight in network.parameters() if weight.ndim >= 2]


def tensors(layers, dtype=torch.float32):
    return [torch.empty_like(layer, dtype=dtype) for layer in layers]


@with_triton
@pytest.mark.parametrize("together", [False, True])
def test_a_selection_with_the_weights_that_follow_is_nine_launches(layers, launched, together):
    """It was 61: seven, and one for the weights of each layer."""
    from supermask.masking.kernels.gpu import GpuSelector

    assert len(layers) == 54
    scores, masks = tensors(layers), tensors(layers, torch.bool)
    weights = [Weights(*pair) for pair in zip(tensors(layers), tensors(layers), strict=True)]
    if together:
        problems = [TopK(tuple(scores), 1000, tuple(masks), tuple(weights))]
    else:
        problems = [
            TopK((score,), score.numel() // 2, (mask,), (pair,))
            for score, mask, pair in zip(scores, masks, weights, strict=True)
        ]
    selector = GpuSelector(False)
    selector.select(problems)
    launched.clear()
    with Operations() as operations:
        selector.select(problems)
    steady = ["count_window", "decide", *["histogram"] * 4, "count_ties", "find_cut", "write"]
    assert launched == steady
    assert operations.names == []


@with_triton
def test_slopes_are_a_launch_for_each_layer(layers, launched):
    """In a CUDA graph, and for large layers; for the others three of torch's, which take Python less time."""
    from supermask.masking.kernels import gpu, plain

    with Operations() as operations:
        for layer in layers:
            gpu.straight_through(layer, layer, layer)
    assert launched == ["straight_through"] * 54
    assert operations.names == []
    assert all(layer.numel() < _LAUNCH_BOUND for layer in layers)
    with Operations() as operations:
        plain.straight_through(layers[0], layers[0], layers[0])
    assert len(operations.names) == 3


@pytest.mark.parametrize(("packed", "bytes_"), [(False, 21), (True, 17 + 1 / 8)])
def test_bytes_of_memory_for_each_weight(packed, bytes_):
    """Scores, momentum, gradient and masked weight have 4 each and the mask 1; the frozen weight 4, or a bit."""
    search = EdgePopup(torch.nn.Linear(256, 512), density=0.5, packed=packed)
    optimizer = torch.optim.SGD(search.parameters(), lr=0.1, momentum=0.9)
    search.model(torch.ones(1, 256)).sum().backward()
    optimizer.step()
    search.step()
    held = [*search.parameters(), *(score.grad for score in search.parameters())]
    held += [state["momentum_buffer"] for state in optimizer.state.values()]
    held += [buffer for buffer in search.model.buffers() if buffer.numel() > 1]
    assert sum(tensor.nbytes for tensor in held) == bytes_ * 256 * 512
