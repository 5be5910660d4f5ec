"""The target of `supermask construct`: a trained network from a file or a run folder, or a fresh one by its name."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from supermask import data, models
from supermask.data import DataSet
from supermask.data.own import is_own
from supermask.errors import SupermaskError
from supermask.files import read_json
from supermask.models import InputShape
from supermask.runs.job import slug_of
from supermask.shown import quoted
from theory.cli.state import fully_connected, load_into, read_state


@dataclass(frozen=True)
class Architecture:
    """Options of the target's network that the user gave; None where one was not given.

    Attributes:
        model: a name that `supermask.models.make` takes.
        width: factor on its hidden widths.
        input_shape: channels, height and width of its images.
        classes: number of its outputs.

    """

    model: str | None = None
    width: float | None = None
    input_shape: InputShape | None = None
    classes: int | None = None

    def for_data(self, data_set: DataSet | None) -> "Architecture":
        """Return these options with the image shape and the classes of a data set where they were not given."""
        if data_set is None:
            return self
        shape, classes = self.input_shape or data_set.input_shape, self.classes or data_set.classes
        return replace(self, input_shape=shape, classes=classes)

    def build(self, seed: int) -> nn.Module:
        """Return the network, freshly initialised, float64 and in eval mode."""
        assert self.model is not None
        classes = 10 if self.classes is None else self.classes
        width = 1.0 if self.width is None else self.width
        with torch.random.fork_rng(devices=[]):  # the caller's random state is left as it is
            torch.manual_seed(seed)
            network = self._made(self.model, classes, width)
        return network.double().eval()

    def _made(self, name: str, classes: int, width: float) -> nn.Module:
        if models.is_code(name) and self.input_shape is None:
            raise SupermaskError(f"What {name} takes is not known; give --input-shape, or --data.")
        if self.input_shape is None:  # the paper's own
            return models.build(name, classes=classes, width=width)
        return models.make(name, input_shape=self.input_shape, classes=classes, width=width)

    @property
    def images(self) -> InputShape | None:
        """Shape of the images that the network takes, where it is known."""
        spec = models.MODELS.get(self.model or "")
        return self.input_shape or (spec.input_shape if spec else None)


@dataclass(frozen=True, eq=False)
class TargetNetwork:
    """A target network, ready to be read.

    Attributes:
        name: to show, without its folder.
        slug: for folders.
        network: float64, in eval mode.
        input_shape: of one input; None where the network tells.

    """

    name: str
    slug: str
    network: nn.Module
    input_shape: InputShape | None


def target_network(
    target: str, given: Architecture, *, seed: int, data_set: DataSet | None, data_folder: Path | None
) -> TargetNetwork:
    """Return the target of a name.

    Args:
        target: a model's name, a file of a state dict, or the folder of a run of `supermask train`.
        given: options of its network.
        seed: of the weights of a model that is built by its name.
        data_set: the one that it classifies, if there is one.
        data_folder: where the data sets lie, for the data set of a run folder.

    Raises:
        SupermaskError: there is no such target, its file is damaged, or it does not fit the network.

    """
    if target in models.known() or target.startswith("torchvision:") or models.is_code(target):
        return _fresh(target, given.for_data(data_set), seed)
    path = Path(target)
    if path.is_dir():
        return _of_run(path, given, data_set, data_folder)
    if not path.exists():
        names = f"{', '.join(models.known())}, and {models.TORCHVISION_HINT}"
        raise SupermaskError(f"There is no file {target}, and no model of that name; the models are {names}.")
    slug = f"{path.resolve().parent.name}-{path.stem}"
    if given.model is not None:
        return _fitted(path, path.name, slug, given.for_data(data_set))
    if given.width is not None or given.classes is not None:
        raise SupermaskError(f"--model-width and --classes need --model, the network that {path} is of.")
    return TargetNetwork(path.name, slug, fully_connected(read_state(path), path), given.input_shape)


def _fresh(name: str, given: Architecture, seed: int) -> TargetNetwork:
    if given.model not in (None, name):
        raise SupermaskError(f"--target {name} is a model by itself; leave out --model {given.model}.")
    architecture = replace(given, model=name)
    return TargetNetwork(name, slug_of(name), architecture.build(seed), architecture.images)


def _of_run(folder: Path, given: Architecture, data_set: DataSet | None, data_folder: Path | None) -> TargetNetwork:
    """Return the network of a run of `supermask train`, which is as its settings say."""
    path = folder / "network.safetensors"
    if not path.exists():
        raise SupermaskError(f"{folder} holds no network.safetensors; give a file, or a folder of supermask train.")
    config = read_json(folder / "config.json")
    try:
        said = Architecture(str(config["model"]), float(config["width"]))
        name = str(config["data"])
    except (KeyError, TypeError, ValueError):
        raise SupermaskError(f"{folder / 'config.json'} is not that of a run; give its network and --model.") from None
    if models.is_code(str(said.model)) and given.model != said.model:
        raise SupermaskError(f"{folder} is a run of the model {quoted(said.model)}; give --model too, to import it.")
    if given.input_shape is None or given.classes is None:
        if is_own(name) and (data_set is None or data_set.name != name):
            raise SupermaskError(f"{folder} is a run on {quoted(name)}; give --data too, to read it.")
        said = said.for_data(data.load(name, folder=data_folder))
    spoken: dict[str, Any] = {key: value for key, value in vars(given).items() if value is not None}
    return _fitted(path, folder.resolve().name, folder.resolve().name, replace(said, **spoken))


def _fitted(path: Path, name: str, slug: str, architecture: Architecture) -> TargetNetwork:
    network = architecture.build(seed=0)  # whose weights are all replaced
    load_into(read_state(path), network, path, str(architecture.model))
    return TargetNetwork(name, slug, network, architecture.images)
