"""One optimizer step of one network, trained densely, by our search or by a published one: what is timed."""

import gc
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiments.measuring import torchao_layers
from experiments.measuring.published_selection import PUBLISHED, PublishedEdgePopup
from supermask import EdgePopup, models
from supermask.baselines import Dense
from supermask.training import Recipe

WAYS = ("dense", "ours", *PUBLISHED)
TORCHAO = "torchao"
OTHERS = (*PUBLISHED, TORCHAO)
"""Other implementations. The last one is timed only where its package is installed."""
DENSITY = 0.5
LEARNING_RATE = 0.01


class TimedSubject(Protocol):
    """What is trained."""

    model: nn.Module

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what the optimizer trains."""

    def step(self) -> None:
        """Do what follows an optimizer step."""


@dataclass(frozen=True)
class StepSetting:
    """A network and its batch.

    Attributes:
        model: a name that `supermask.models.build` takes.
        input_shape: (channels, height, width) of the random images.
        batch: images of a step.
        classes: of the random labels.
        bf16: run the network under bfloat16 autocast.
        channels_last: lay images and convolutions out with their channels last.

    """

    model: str
    input_shape: tuple[int, int, int]
    batch: int
    classes: int = 10
    bf16: bool = False
    channels_last: bool = False

    def build(self) -> nn.Module:
        """Return the network, freshly built."""
        return models.build(self.model, input_shape=self.input_shape, classes=self.classes)

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways in which it is trained: `WAYS`, and torchao's where that is installed and has all its layers."""
        theirs = torchao_layers.installed() and torchao_layers.replaceable(self.build())
        return (*WAYS, TORCHAO) if theirs else WAYS

    def subject(self, way: str) -> TimedSubject:
        """Return what is trained in one of its ways: all searches have the same weights and first scores."""
        if way == "dense":
            return Dense(self.build())
        ours = EdgePopup(self.build(), density=DENSITY)
        if way == TORCHAO:
            return torchao_layers.TorchaoEdgePopup(self.build(), ours)
        return ours if way == "ours" else PublishedEdgePopup(self.build(), ours, PUBLISHED[way])


class TrainingStep:
    """A network with its optimizer and its one batch, which is the same in every way.

    Args:
        setting: the network and its batch.
        way: one of the setting's.
        device: where it is trained.

    """

    def __init__(self, setting: StepSetting, way: str, device: torch.device) -> None:
        self._subject, self._setting, self._device = setting.subject(way), setting, device
        layout = torch.channels_last if setting.channels_last else torch.preserve_format
        self.model = self._subject.model.to(device=device).to(memory_format=layout)
        self._optimizer = self._fastest(way)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(setting.batch, *setting.input_shape, generator=generator)
        self._images = (
            images.to(device).contiguous(memory_format=layout) if setting.channels_last else images.to(device)
        )
        self._labels = torch.randint(setting.classes, (setting.batch,), generator=generator).to(device)
        gc.collect()  # of a published way a whole search was only its pattern

    def _fastest(self, way: str) -> torch.optim.Optimizer:
        """Return the optimizer that `train` takes with `Recipe(fused=True)`; published codes have torch's too."""
        recipe = Recipe(learning_rate=LEARNING_RATE, fused=self._device.type == "cpu")
        if way == "ours" and recipe.fused:
            assert isinstance(self._subject, EdgePopup)
            return self._subject.fused_sgd(**recipe.sgd)
        return recipe.make_optimizer(self._subject.parameters())

    def train(self) -> Tensor:
        """Do one optimizer step, masks and all; return the loss before it."""
        self._optimizer.zero_grad()
        loss = self._loss()
        loss.backward()
        self._optimizer.step()
        self._subject.step()
        return loss.detach()

    def forget_gradients(self) -> None:
        """Free the gradients, so that the next step makes them again; a CUDA graph then owns them."""
        self._optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def evaluate(self) -> Tensor:
        """Do one forward pass without gradients; return the loss. Call `model.eval()` first."""
        return self._loss()

    def _loss(self) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._setting.bf16):
            return cross_entropy(self.model(self._images), self._labels)
