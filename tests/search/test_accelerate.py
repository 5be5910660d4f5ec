"""A search under accelerate: its steps are the optimizer's, and accelerate's own checkpoints are enough to go on."""

import pytest
import torch
from killed import kill, killed
from torch import nn

from supermask import EdgePopup
from supermask.masking.schedule import CubicRamp

accelerate = pytest.importorskip("accelerate")
IMAGES = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
LABELS = IMAGES[:, :3].argmax(1)


def run(folder=None, *, first=0, last=24, kill_at=None, before=True, every=1):
    """Train from a step to another, saving after every five; `before` follows the optimizer before it is wrapped."""
    torch.manual_seed(0)
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=every)
    search = EdgePopup(
        nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)), density=0.3, schedule=CubicRamp(20)
    )
    optimizer = torch.optim.SGD(search.parameters(), lr=0.3, momentum=0.9)
    if before:
        search.follow(optimizer)
    model, optimizer = accelerator.prepare(search.model, optimizer)
    if not before:
        search.follow(optimizer)
    if first:
        accelerator.load_state(str(folder))
        assert search.steps == first
    for step in range(first, last):
        if step == kill_at:
            kill()
        part = slice(step % 8 * 8, step % 8 * 8 + 8)
        with accelerator.accumulate(model):
            accelerator.backward(nn.functional.cross_entropy(model(IMAGES[part]), LABELS[part]))
            optimizer.step()
            optimizer.zero_grad()
        if folder and step % 5 == 4:
            accelerator.save_state(str(folder))
    return search


def run_until_killed(folder):
    run(folder, kill_at=13)


@pytest.mark.parametrize("before", [True, False])
def test_a_run_that_was_killed_goes_on_from_its_state_to_the_same_ticket(before, tmp_path):
    killed(run_until_killed, tmp_path)
    resumed, whole = run(tmp_path, first=10, before=before), run()
    assert resumed.steps == whole.steps == 24
    assert all(torch.equal(scores, whole.scores()[name]) for name, scores in resumed.scores().items())
    assert resumed.ticket() == whole.ticket()


@pytest.mark.parametrize("before", [True, False])
def test_accumulated_batches_are_one_step(before):
    assert run(every=4, before=before).steps == 6


def test_a_step_that_a_scaler_skips_is_not_one():
    accelerate.Accelerator(cpu=True)
    search = EdgePopup(nn.Linear(8, 3), density=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = accelerate.optimizer.AcceleratedOptimizer(
        torch.optim.SGD(search.parameters(), lr=0.3), scaler=scaler, device_placement=False
    )
    search.follow(optimizer)
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(nn.functional.cross_entropy(search.model(IMAGES), LABELS) * factor).backward()
        optimizer.step()
    assert search.steps == 2
