"""The transformer of text tickets against a slow one, its two heads, and the scale of its queries and keys."""

import math

import pytest
import torch

from supermask.errors import SupermaskError
from supermask.models import TOKEN_MODELS, make
from supermask.models.text_transformer import TextTransformer

IDS = torch.randint(0, 11, (3, 7), generator=torch.Generator().manual_seed(0))


def _model(seed=0, **options):
    torch.manual_seed(seed)
    return TextTransformer(11, 9, 5, units=16, layers=2, **options).double().eval()


def _slow(model, ids, factor=1.0):
    """One text at a time, one head and one position at a time, after the definition."""
    logits = []
    for text in ids:
        x = model.tokens.weight[text] + model.places.weight[: len(text)]
        for block in model.blocks:
            seen = block.first(x)
            query, key, value = factor * block.query(seen), factor * block.key(seen), block.value(seen)
            found = torch.zeros_like(x)
            for head in range(4):
                own = slice(4 * head, 4 * head + 4)
                for place in range(len(text)):
                    scores = [query[place, own] @ key[other, own] / math.sqrt(4) for other in range(place + 1)]
                    shares = torch.softmax(torch.stack(scores), 0)
                    found[place, own] = sum(
                        share * value[other, own] for share, other in zip(shares, range(place + 1), strict=True)
                    )
            x = x + block.output(found)
            x = x + block.hidden(block.second(x))
        hidden = model.norm(x)
        logits.append(model.head(hidden.mean(0) if model.pooled else hidden))
    return torch.stack(logits)


@pytest.mark.parametrize("pooled", [False, True])
def test_logits_are_those_of_the_definition(pooled):
    model = _model(pooled=pooled)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS), _slow(model, IDS))
    assert model(IDS).shape == ((3, 5) if pooled else (3, 7, 5))


def test_wide_keys_are_weights_of_queries_and_keys_drawn_wider_by_the_fourth_root():
    wide, plain = _model(wide_keys=True), _model()
    with torch.no_grad():
        assert not torch.allclose(wide(IDS), plain(IDS))
        torch.testing.assert_close(wide(IDS), _slow(wide, IDS, 4**0.25))
        for name, parameter in plain.named_parameters():
            if ".query." in name or ".key." in name:
                parameter *= 4**0.25  # 16 units in 4 heads: n = 4
        torch.testing.assert_close(wide(IDS), plain(IDS))


def test_products_of_wide_keys_are_as_large_as_without_a_division():
    torch.manual_seed(0)
    query, key = torch.randn(2, 64, dtype=torch.float64)
    assert torch.isclose((64**0.25 * query) @ (64**0.25 * key) / 64**0.5, query @ key)


def test_the_networks_of_both_tasks_have_one_trunk():
    sizes = {"input_shape": (9,), "vocabulary": 11, "width": 0.5}
    texts = {name: make(name, classes=11, **sizes) for name in TOKEN_MODELS if name.endswith("_transformer")}
    labels = {name: make(name, classes=4, **sizes) for name in TOKEN_MODELS if name.endswith("_classifier")}
    shapes = [
        {name: each.shape for name, each in model.named_parameters() if not name.startswith("head")}
        for model in (*texts.values(), *labels.values())
    ]
    assert len(shapes) == 4
    assert all(each == shapes[0] for each in shapes)
    assert {name: model(IDS).shape for name, model in labels.items()} == dict.fromkeys(labels, (3, 4))
    factors = {name: model.blocks[0].factor for name, model in (texts | labels).items()}
    assert {name: factor != 1.0 for name, factor in factors.items()} == {
        name: name.startswith("wide_key") for name in factors
    }


def test_sizes_that_do_not_fit_are_told():
    with pytest.raises(SupermaskError, match="classes is 0"):
        make("text_classifier", input_shape=(9,), vocabulary=11, classes=0)
    with pytest.raises(SupermaskError, match="width"):
        make("text_transformer", input_shape=(9,), vocabulary=11, classes=11, width=-1.0)
    with pytest.raises(SupermaskError, match="takes token ids"):
        make("text_classifier", input_shape=(3, 4, 4), classes=4)
