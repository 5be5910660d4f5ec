import pytest
import torch

from supermask import models
from supermask.judge.small_dense import build_at, width_of

TINY = {"name": "lenet_300_100", "input_shape": [1, 2, 2], "classes": 3, "width": 0.1}


def size(model, width):
    return sum(parameter.numel() for parameter in build_at(model, width).parameters())


def test_no_width_comes_nearer():
    """Of widths so close together that no two layers grow by a unit between two of them."""
    sizes = {size(TINY, (step + 0.37) / 10_000) for step in range(1000)}
    for wanted in (1, 14, 40, 99, 250, 400, 512):
        width, count = width_of(TINY, wanted)
        assert count == size(TINY, width)
        assert abs(count - wanted) == min(abs(each - wanted) for each in sizes)


def test_no_network_is_wider_than_the_whole_or_narrower_than_one_unit():
    assert width_of(TINY, 10**9) == (0.1, size(TINY, 0.1))
    assert width_of(TINY, 0)[1] == size(TINY, 1e-9) == 4 + 1 + 1 + 1 + 3 + 3


@pytest.mark.parametrize("name", models.known())
def test_every_network_has_its_widths(name):
    shape = models.MODELS[name].input_shape
    whole = {"name": name, "input_shape": list(shape), "classes": 10, "width": 1.0}
    with torch.device("meta"):
        wanted = size(whole, 1.0) // 10
    state = torch.get_rng_state()
    width, count = width_of(whole, wanted)
    assert torch.equal(torch.get_rng_state(), state)
    assert 0 < width < 1
    assert abs(count / wanted - 1) < 0.1
