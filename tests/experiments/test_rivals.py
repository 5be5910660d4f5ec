"""Rivals at equal bytes: what a network takes in a file, and that it can be read again."""

import torch

from experiments import prune_far, rivals
from experiments.framework.small import Small
from experiments.measuring.stored import packed, stored_bytes, unpacked
from supermask import EdgePopup, models
from supermask.baselines.at_initialisation import SNIP, SynFlow
from supermask.baselines.dense import Dense
from supermask.baselines.sparse import Sparse, whole_ticket
from supermask.files import tensor_bytes
from supermask.runs import Job, SearchOptions
from supermask.training import Recipe

RECIPE = Recipe(iterations=4, batch_size=32)
DIGITS = Small(Job(method="dense", model="lenet_300_100", width=0.1, data="digits", recipe=RECIPE), train=200, test=80)


def network():
    return models.build("lenet_300_100", input_shape=(1, 8, 8), width=0.1)


def test_packed_values_are_read_again_bit_for_bit():
    sparse = Sparse(network(), whole_ticket(network(), seed=0))
    sparse.set_masks({name: torch.rand(mask.shape) < 0.2 for name, mask in sparse.masks().items()})
    state, masks = sparse.model.state_dict(), sparse.masks()
    again = unpacked(packed(state, masks), masks)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_a_sparse_network_is_its_ticket_and_its_kept_values_unless_the_whole_is_smaller():
    sparse = Sparse(network(), whole_ticket(network(), seed=0))
    whole = len(tensor_bytes(sparse.model.state_dict()))
    assert stored_bytes(sparse) == whole
    sparse.set_masks({name: torch.rand(mask.shape) < 0.1 for name, mask in sparse.masks().items()})
    kept = sum(int(mask.sum()) for mask in sparse.masks().values())
    assert 4 * kept + sparse.ticket().size < stored_bytes(sparse) < whole
    assert stored_bytes(Dense(network(), seed=0)) == whole


def test_a_strong_ticket_is_its_file():
    search = EdgePopup(network(), density=0.5, seed=0)
    assert stored_bytes(search) == search.ticket().size


def test_a_rival_counts_what_is_left(tmp_path):
    job = Job(**{**vars(DIGITS.job), "method": "snip", "options": SNIP(batch=20), "search": SearchOptions(density=0.1)})
    found = rivals.Rival(Small(job, train=200, test=80)).run(tmp_path / "snip", device="cpu", data_folder=None)
    assert found.kept == round(0.1 * (64 * 30 + 30 * 10 + 10 * 10))
    whole = 10 * (64 * 300 + 300 * 100 + 100 * 10) / 10
    assert found.speed_up == whole / found.kept
    assert len(rivals._row([found])) == len(rivals.EXPERIMENT.table.header)


def test_a_network_is_pruned_far_and_its_empty_layers_are_counted(tmp_path):
    far = prune_far.Far(DIGITS, 0, SynFlow(), 100)
    found = far.run(tmp_path / "far", device="cpu", data_folder=None)
    assert (found.kept, found.empty) == (23, 0)
    assert "SynFlow" in prune_far._conclusion({"SynFlow, 100x": [found]})
