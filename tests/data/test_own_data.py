"""Data of the caller's own: tensors of other kinds than labelled pixels, and batches of any kind."""

import pytest
import torch

from supermask import SupermaskError
from supermask.data import Loaders, from_tensors
from supermask.data.batch import Batch, arguments, batch_of, examples_in, mapped, with_targets
from supermask.errors import DataError

X, Y = torch.arange(12.0).view(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
IDS = torch.arange(12).view(3, 4)


def test_floats_and_integers_go_into_a_network_as_they_are():
    floats = from_tensors((X.double(), Y))
    assert (floats.classes, floats.input_shape) == (3, (2,))
    assert torch.equal(floats.normalize(floats.train.images), X)
    tokens = from_tensors((IDS.int(), torch.where(IDS > 2, -100, IDS)), classes=20)
    assert tokens.classes == 20
    assert tokens.normalize(tokens.train.images).dtype == torch.int64
    assert from_tensors((X, X)).classes == 0


def test_pixels_are_normalised_by_their_own_statistics():
    images = torch.arange(24, dtype=torch.uint8).view(6, 1, 2, 2)
    data = from_tensors((images, Y))
    found = data.normalize(images)
    assert abs(float(found.mean())) < 1e-6
    assert abs(float(found.std(correction=0)) - 1) < 1e-6


def test_a_test_set_that_is_a_function_is_read_when_it_is_asked_for():
    calls = []
    data = from_tensors((X, Y), test=lambda: calls.append(0) or (X, Y))
    assert not calls
    assert len(data.test()) == 6
    assert (len(calls), data.test_reads) == (1, 1)
    assert len(from_tensors((X, Y)).test()) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: from_tensors((X, Y[:5])), "6 images came with 5 labels"),
        (lambda: from_tensors((X, Y), classes=2), "run from 0 to 2; expected 0 to 1"),
        (lambda: from_tensors((X, X), classes=2), "give classes=0"),
        (lambda: from_tensors((IDS.byte(), IDS)), "token ids int64"),
        (lambda: from_tensors((torch.zeros(3, 1, 2, 2).byte(), Y[:3])), "is constant"),
        (lambda: Loaders(iter([])), "cannot be iterated again"),
        (lambda: batch_of([]), "A batch is empty"),
    ],
)
def test_what_is_not_data_is_refused(given, message):
    with pytest.raises(SupermaskError, match=message):
        given()


def test_batches_of_every_kind_are_told_apart():
    assert batch_of((X, Y)) == Batch(X, Y)
    assert batch_of([X, Y]) == Batch(X, Y)
    assert batch_of((X, IDS, Y)).inputs == (X, IDS)
    assert batch_of([X]) == batch_of(X) == Batch(X, None)
    assert batch_of({"input_ids": IDS, "label": Y}) == Batch({"input_ids": IDS}, Y)
    assert batch_of({"input_ids": IDS}) == Batch({"input_ids": IDS}, None)
    assert arguments((X, Y)) == ((X, Y), {})
    assert arguments({"u": X}) == ((), {"u": X})
    assert arguments(X) == ((X,), {})


def test_a_forward_pass_that_names_the_targets_gets_them():
    class Own(torch.nn.Module):
        def forward(self, u, labels=None):
            return u

    batch = batch_of({"u": X, "label": Y})
    assert with_targets(Own(), batch) == {"u": X, "labels": Y}
    assert with_targets(torch.nn.Identity(), batch) == {"u": X}
    assert with_targets(Own(), Batch(X, Y)) is X


def test_tensors_are_changed_at_any_depth_and_examples_counted():
    assert mapped({"a": [X, (Y, "text")]}, len) == {"a": (6, (6, "text"))}
    assert examples_in(Batch({"a": IDS}, None)) == 3
    with pytest.raises(DataError, match="no tensors"):
        examples_in(Batch("text", None))
