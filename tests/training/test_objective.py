"""What a loss is made of, against torch's own by hand, and what is refused because it is not certain."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from supermask import SupermaskError
from supermask.data.batch import Batch
from supermask.training import Objective, evaluate

LOGITS, LABELS = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 4, 0])
OUTPUTS = LOGITS, (LOGITS, None), {"logits": LOGITS}, SimpleNamespace(logits=LOGITS, loss=None)
SEQUENCES, TOKENS = LOGITS.view(2, 3, 5), LABELS.view(2, 3)


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_integer_targets_have_the_cross_entropy_of_the_logits(outputs):
    objective = Objective()
    torch.testing.assert_close(objective.cost(outputs, LABELS), functional.cross_entropy(LOGITS, LABELS))
    torch.testing.assert_close(
        objective.cost(outputs, LABELS, temperature=3.0), functional.cross_entropy(LOGITS / 3.0, LABELS)
    )
    counts = objective.count(outputs, Batch(None, LABELS))
    assert (counts.correct, counts.total) == (int((LOGITS.argmax(1) == LABELS).sum()), 6)
    assert counts.loss == pytest.approx(float(functional.cross_entropy(LOGITS, LABELS, reduction="sum")))


def test_classes_of_sequences_are_on_the_last_axis_and_of_images_on_the_second():
    expected = functional.cross_entropy(LOGITS, LABELS)
    torch.testing.assert_close(Objective().cost(SEQUENCES, TOKENS), expected)
    images = SEQUENCES.movedim(-1, 1)[..., None]  # (N, C, H, W)
    torch.testing.assert_close(Objective().cost(images, TOKENS[..., None]), expected)
    # as many positions as classes: the last axis
    square, labels = torch.randn(2, 5, 5), torch.randint(0, 5, (2, 5))
    by_rows = functional.cross_entropy(square.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(Objective().cost(square, labels), by_rows)


def test_positions_that_do_not_count_are_left_out():
    some = TOKENS.clone()
    some[:, 0] = -100
    counts = Objective().count(SEQUENCES, Batch(None, some))
    assert counts.total == 4
    assert counts.loss / 4 == pytest.approx(
        float(functional.cross_entropy(SEQUENCES[:, 1:].flatten(0, 1), some[:, 1:].flatten()))
    )


@pytest.mark.parametrize("own", [(torch.tensor(2.5), SEQUENCES), {"loss": torch.tensor(2.5), "logits": SEQUENCES}])
def test_the_outputs_own_loss_is_taken_and_positions_are_not_compared(own):
    assert float(Objective().cost(own, TOKENS)) == 2.5
    # a language model shifts its labels, so that positions are not those of the logits
    assert Objective().count(own, Batch(None, TOKENS)) == (None, 6, 15.0)


def test_a_scalar_after_the_logits_is_not_the_loss():
    outputs = LOGITS, torch.tensor(0.125)
    torch.testing.assert_close(Objective().cost(outputs, LABELS), functional.cross_entropy(LOGITS, LABELS))


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        (LOGITS, LOGITS, r"float32 of shape \(6, 5\), which may be numbers, probabilities or several labels"),
        (LOGITS[:, 0], LOGITS[:, 0], "which may be numbers"),
        (LOGITS, LABELS > 0, "bool of shape"),
        (LOGITS[:, :1], LABELS, "one class, whose cross entropy is always 0"),
        (LOGITS, LABELS[:, None], "cross entropy takes labels"),
        (LOGITS, TOKENS, "cross entropy takes labels"),
        (LOGITS, None, "targets of type NoneType have no loss of their own"),
        ("text", LABELS, "Outputs of type str"),
    ],
)
def test_what_has_no_certain_loss_is_refused(outputs, targets, message):
    with pytest.raises(SupermaskError, match=message):
        Objective().cost(outputs, targets)


@pytest.mark.parametrize("loss", [functional.mse_loss, nn.L1Loss(), functional.huber_loss])
def test_a_column_is_not_compared_with_a_row(loss):
    with pytest.raises(SupermaskError, match=r"takes two of one shape"):
        Objective(loss).cost(LOGITS[:, :1], LOGITS[:, 0])
    assert Objective(loss).cost(LOGITS[:, 0], LOGITS[:, 1]).ndim == 0


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda o, t: o, "returned float32 of shape"),
        (lambda o, t: 1.0, "returned float"),
        (lambda o, t: o.sum() > 0, "returned bool"),
        (lambda o, t: o.sum() * 1j, "returned complex"),
    ],
)
def test_a_loss_that_is_not_a_scalar_is_refused(loss, said):
    with pytest.raises(SupermaskError, match=said):
        Objective(loss).cost(LOGITS, LABELS)


def test_evaluation_of_a_regression_is_its_loss_over_batches_of_any_size():
    torch.manual_seed(0)
    model, x, y = nn.Linear(3, 2), torch.randn(7, 3), torch.randn(7, 2)
    score = evaluate(model, [(x[:5], y[:5]), (x[5:], y[5:])], loss=functional.mse_loss)
    assert (score.correct, score.total) == (None, 7)
    assert score.loss == pytest.approx(float(functional.mse_loss(model(x), y).detach()))
    assert score.accuracy != score.accuracy
    assert score.text == f"loss {score.loss:.4g}"


def test_a_loss_of_ones_own_over_classes_leaves_their_accuracy():
    def smoothed(outputs, targets):
        return functional.cross_entropy(outputs, targets, label_smoothing=0.1)

    counts = Objective(smoothed).count(LOGITS, Batch(None, LABELS))
    assert counts.correct == int((LOGITS.argmax(1) == LABELS).sum())
    assert counts.loss == pytest.approx(6 * float(smoothed(LOGITS, LABELS)))
