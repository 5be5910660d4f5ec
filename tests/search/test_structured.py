"""Structured masks against groups that are named weight by weight."""

import math

import numpy as np
import pytest
import torch
from one_layer import gain, gradients, linear, only
from torch import nn

from supermask import models
from supermask.errors import SupermaskError
from supermask.masking.granularity import Blocks, Channels, NofM
from supermask.search import StructuredPopup


def groups_of(structure, shape):
    """Name the group of every weight, one by one."""
    rows, width = shape[0], math.prod(shape[1:])
    names = np.empty((rows, width), dtype=int)
    field = math.prod(shape[2:])
    for row in range(rows):
        for column in range(width):
            if isinstance(structure, Channels):
                names[row, column] = row if structure.side == "out" else column // field
            else:
                names[row, column] = row // structure.rows * 1000 + column // structure.columns
    return names.reshape(shape)


@pytest.mark.parametrize("structure", [Channels("in"), Channels("out"), Blocks(2, 3), Blocks(3, 5), Blocks(100, 100)])
@pytest.mark.parametrize("make", [linear, lambda: nn.Conv2d(3, 8, 2, bias=False)])
def test_groups_are_kept_whole_by_the_sum_of_their_scores(structure, make):
    search = StructuredPopup(make(), structure=structure, density=0.4)
    mask, score = only(search.masks()).numpy(), only(search.scores()).detach().abs().numpy()
    names = groups_of(structure, mask.shape)
    sums = {name: score[names == name].sum() for name in set(names.ravel().tolist())}
    kept = sorted(sums, key=sums.get, reverse=True)[: max(1, round(0.4 * len(sums)))]
    expected = np.array([name in kept for name in names.ravel().tolist()]).reshape(mask.shape)
    assert (mask == expected).all()


@pytest.mark.parametrize("density", [0.5, 0.01])
@pytest.mark.parametrize("structure", [Channels("in"), Channels("out"), Blocks(64, 64)])
def test_no_layer_is_emptied_by_rounding(structure, density):
    search = StructuredPopup(models.build("lenet5"), structure=structure, density=density)
    assert all(mask.any() for mask in search.masks().values())
    none = StructuredPopup(models.build("lenet5"), structure=structure, density=0.0)
    assert not any(mask.any() for mask in none.masks().values())


@pytest.mark.parametrize("structure", [Channels("in"), Channels("out"), Blocks(3, 5)])
def test_all_scores_of_a_group_take_its_gradient(structure):
    search = StructuredPopup(linear(), structure=structure, density=0.4)
    gradient, weight = gradients(search)
    product = (weight * only(search.frozen_weights()) * gain(search)).numpy()
    names, signs = groups_of(structure, (8, 12)), only(search.scores()).detach().sign().numpy()
    for name in set(names.ravel().tolist()):
        place = names == name
        np.testing.assert_allclose(gradient.numpy()[place], product[place].sum() * signs[place], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 3), (3, 5), (0, 2), (4, 4), (2, 100)])
@pytest.mark.parametrize("make", [linear, lambda: nn.Conv2d(3, 8, 2, bias=False), lambda: nn.Linear(7, 5, bias=False)])
def test_n_of_every_m_weights_of_a_unit_stay(n, m, make):
    search = StructuredPopup(make(), structure=NofM(n, m))
    mask, score = only(search.masks()), only(search.scores()).detach().abs()
    assert search.density == n / m
    for row, ranks in zip(mask.flatten(1), score.flatten(1), strict=True):
        for start in range(0, len(row), m):
            kept, among = row[start : start + m], ranks[start : start + m]
            assert int(kept.sum()) == min(n, len(kept))
            if 0 < kept.sum() < len(kept):
                assert among[kept].min() > among[~kept].max()
    gradient, weight = (
        gradients(search) if isinstance(search.model, nn.Linear) and mask.shape[1] == 12 else (None, None)
    )
    if gradient is not None:
        signs = only(search.scores()).detach().sign()
        torch.testing.assert_close(gradient, weight * only(search.frozen_weights()) * signs)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: NofM(3, 2), "from 0 to m"),
        (lambda: Blocks(0, 2), "without weights"),
        (lambda: Channels("both"), "known are in, out"),
        (lambda: StructuredPopup(linear(), structure=NofM(2, 4), density=0.3), "leave it out"),
        (lambda: StructuredPopup(linear(), structure=Blocks()), "give density="),
    ],
)
def test_structures_that_do_not_fit_are_refused(make, says):
    with pytest.raises(SupermaskError, match=says):
        make()
