import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from supermask.errors import SupermaskError
from supermask.training import evaluate


def test_the_score_is_that_of_all_examples_at_once():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.9))
    inputs, labels = torch.randn(50, 4), torch.randint(3, (50,))
    score = evaluate(model, [(inputs[:20], labels[:20]), (inputs[20:], labels[20:])])
    logits = model.eval()(inputs).detach()
    assert score.total == 50
    assert score.correct == sum(int(logits[i].argmax()) == int(labels[i]) for i in range(50))
    assert score.accuracy == score.correct / 50
    assert score.loss == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-6)


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_stays_as_it_was(mode):
    model = nn.Linear(2, 2).train(mode)
    evaluate(model, [(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))])
    assert model.training is mode


def test_no_examples_have_accuracy_zero():
    assert evaluate(nn.Linear(2, 2), []).accuracy == 0.0


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_is_back_after_an_error(mode):
    model = nn.Linear(2, 2).train(mode)
    with pytest.raises(
        SupermaskError, match="labels from 7 to 7"
    ) as caught:  # kept alive, and with it the frames of its traceback
        evaluate(model, [(torch.zeros(1, 2), torch.full((1,), 7))])
    assert model.training is mode
    assert caught.value is not None
