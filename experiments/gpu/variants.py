"""S6: ways to train under which masks must stay those of the CPU: precisions, packing, scopes, compilation."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from experiments.gpu.bench import Bench
from supermask import EdgePopup, models
from supermask.masking import CubicRamp, Global, keep_largest

_STEPS = 5
Loss = Callable[[torch.nn.Module, Tensor, Tensor], Tensor]


def run(bench: Bench) -> None:
    """Take five steps in each way, then select from the GPU's scores on the CPU and compare the masks."""
    options: dict[str, Mapping[str, Any]] = {
        "plain": {},
        "signed": {"score": "signed"},
        "packed": {"packed": True},
        "global": {"scope": "global"},
        "global with a floor": {"scope": Global(floor=3)},
        "schedule": {"schedule": CubicRamp(_STEPS)},
    }
    for name, chosen in options.items():
        _try(bench, name, _plain, chosen)
    losses: dict[str, Loss] = {"bfloat16": _bfloat16, "checkpointing": _checkpointed}
    if not bench.tiny:
        losses["compiled"] = _Compiled()
    for name, loss in losses.items():
        if bench.left() > (30 if name == "compiled" else 3):  # Inductor compiles for half a minute
            _try(bench, name, loss, {})


def _try(bench: Bench, name: str, loss: Loss, options: Mapping[str, Any]) -> None:
    try:
        wrong = _wrong(bench, loss, options)
    except Exception as error:  # one way that fails must not hide the others
        bench.note(name, f"{type(error).__name__}: {error}"[:300], right=False)
    else:
        bench.note(name, wrong, "wrong entries", right=wrong == 0)


def _wrong(bench: Bench, loss: Loss, options: Mapping[str, Any]) -> int:
    model = models.build("lenet5" if bench.tiny else "conv4", input_shape=(3, 32, 32))
    search = EdgePopup(model.to(bench.device), **{"density": 0.4, **options})
    optimizer = torch.optim.SGD(search.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(bench.size(16, 2), 3, 32, 32, generator=generator).to(bench.device)
    labels = torch.randint(0, 10, (len(images),), generator=generator).to(bench.device)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        loss(search.model, images, labels).backward()
        optimizer.step()
        search.step()
    masks, scores = search.masks(), {name: score.detach().cpu() for name, score in search.scores().items()}
    ranked = {name: score if options.get("score") else score.abs() for name, score in scores.items()}
    return sum(
        int((masks[name].cpu() != expected).sum()) for name, expected in _expected(ranked, masks, options).items()
    )


def _expected(
    ranked: Mapping[str, Tensor], masks: Mapping[str, Tensor], options: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the masks that the CPU selects from the same scores, each with as many entries as the GPU kept."""
    if options.get("scope") != "global":
        return {name: keep_largest(score, int(masks[name].sum())) for name, score in ranked.items()}
    together = torch.cat([score.flatten() for score in ranked.values()])
    kept = keep_largest(together, sum(int(mask.sum()) for mask in masks.values()))
    parts = kept.split([score.numel() for score in ranked.values()])
    return {name: part.view_as(score) for (name, score), part in zip(ranked.items(), parts, strict=True)}


def _plain(model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(model(images), labels)


def _bfloat16(model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.autocast(images.device.type, torch.bfloat16):
        return _plain(model, images, labels)


def _checkpointed(model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(checkpoint(model, images, use_reentrant=False), labels)


class _Compiled:
    """The loss of the compiled model, which is compiled once."""

    def __init__(self) -> None:
        self._compiled: Callable[..., Tensor] | None = None

    def __call__(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        if self._compiled is None:  # not by its truth: a module may have a length
            self._compiled = torch.compile(model)
        return cross_entropy(self._compiled(images), labels)
