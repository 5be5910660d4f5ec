"""A search on a GPU: the masks of the CPU, no wait for the device, and whole steps in a CUDA graph."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from supermask import EdgePopup, models
from supermask.data import DataSet, Examples
from supermask.errors import SupermaskError
from supermask.masking.budget import Global
from supermask.masking.selection import keep_largest
from supermask.training import Recipe
from supermask.training.batches import Batches

pytestmark = pytest.mark.gpu


def start(name="conv4", **options):
    search = EdgePopup(models.build(name).cuda(), **{"density": 0.4, **options})
    return search, torch.optim.SGD(search.parameters(), lr=0.01, momentum=0.9, foreach=True)


def batch(size=16):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, 32, 32, generator=generator)
    return images.cuda(), torch.randint(0, 10, (size,), generator=generator).cuda()


def one_step(search, optimizer, images, labels):
    optimizer.zero_grad(set_to_none=False)
    loss = cross_entropy(search.model(images), labels)
    loss.backward()
    optimizer.step()
    search.step()
    return loss


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "options", [{}, {"score": "signed"}, {"scope": Global(floor=3)}, {"scope": "erk"}, {"packed": True}]
)
def test_the_masks_are_those_that_the_cpu_selects(options, layout):
    search, optimizer = start(**options)
    search.model.to(memory_format=layout)
    for _ in range(5):
        one_step(search, optimizer, *batch())
    masks = search.masks()
    if options.get("scope") is None:
        for name, scores in search.scores().items():
            ranked = scores.detach().cpu() if options.get("score") else scores.detach().cpu().abs()
            assert torch.equal(masks[name].cpu(), keep_largest(ranked, int(masks[name].sum())))
    for name, weight in search.baked().named_parameters():
        if name in masks:
            assert torch.equal(weight, torch.where(masks[name], search.frozen_weights()[name], 0.0))
            assert not weight[~masks[name]].signbit().any()


@pytest.mark.parametrize("options", [{}, {"scope": "global"}, {"scope": Global(floor=3)}])
def test_a_step_waits_for_nothing(options):
    search, optimizer = start(**options)
    for _ in range(3):
        one_step(search, optimizer, *batch())
    torch.cuda.set_sync_debug_mode("error")
    try:
        search.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_nan_is_found_when_the_masks_are_read():
    search, _ = start()
    with torch.no_grad():
        next(iter(search.parameters())).view(-1)[7] = math.nan
    search.step()
    for read in (search.masks, search.ticket, search.state_dict):
        with pytest.raises(SupermaskError, match=r"1 of \d+ scores are NaN"):
            read()


def test_an_emptied_layer_is_found_when_the_masks_are_read():
    search, _ = start(scope="global")
    with torch.no_grad():
        search.scores()["features.0.0.weight"].zero_()
    search.step()
    with pytest.raises(SupermaskError, match=r"leaves none in features\.0\.0\.weight"):
        search.masks()


def test_whole_steps_in_a_cuda_graph_are_those_that_run_one_by_one():
    (eager, first), (other, second) = start(), start()
    images, labels = batch()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            one_step(other, second, images, labels)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = one_step(other, second, images, labels)
    losses = []
    for _ in range(4):  # nothing ran while the graph was captured
        graph.replay()
        losses.append(captured.item())
    expected = [one_step(eager, first, images, labels).item() for _ in range(7)][3:]
    assert losses == pytest.approx(expected, rel=1e-3)
    kept = {name: int(mask.sum()) for name, mask in other.masks().items()}
    assert kept == {name: round(0.4 * mask.numel()) for name, mask in eager.masks().items()}


def test_a_compiled_network_is_searched_alike():
    (eager, first), (other, second) = start(), start()
    compiled = torch.compile(other.model, fullgraph=True)
    images, labels = batch()
    losses = []
    for group in (*first.param_groups, *second.param_groups):
        group["lr"] = 1e-3  # a larger step makes more of the last bits, in which the compiled sums differ
    for _ in range(4):
        second.zero_grad()
        loss = cross_entropy(compiled(images), labels)
        loss.backward()
        second.step()
        other.step()
        losses.append(loss.item())
    assert losses == pytest.approx([one_step(eager, first, images, labels).item() for _ in range(4)], rel=1e-2)


def test_batches_make_the_host_wait_for_nothing():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=generator)
    part = Examples(images, torch.randint(0, 10, (64,), generator=generator))
    data = DataSet("noise", 10, (3, 32, 32), 255.0, (0.5,) * 3, (0.25,) * 3, part, part, lambda: part)
    batches = Batches(data, Recipe(batch_size=8, augment=True), seed=0, device=torch.device("cuda"))
    batches.batch(0)  # the order of the epoch goes to the device once
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches.batch(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
