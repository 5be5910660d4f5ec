"""S5: the training loop on a GPU, ours and dense, augmented, as a CUDA graph, and how often a step waits."""

import time
from dataclasses import replace

import torch

from experiments.gpu.bench import Bench
from supermask import EdgePopup, models
from supermask.baselines import Dense
from supermask.data import DataSet, Examples
from supermask.training import Recipe, train

_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")


def run(bench: Bench) -> None:
    """Train conv4 on noise of CIFAR-10's shape; LeNet-5 where all is tiny."""
    steps, batch, name = bench.size(200, 2), bench.size(128, 4), "lenet5" if bench.tiny else "conv4"
    data = _noise(steps * batch, rest=bench.size(1000, 4))
    plain = Recipe(epochs=1, batch_size=batch, learning_rate=0.01)
    recipes = {"": plain, ", augmented": replace(plain, augment=True)}
    if bench.device.type == "cuda":
        recipes[", CUDA graph"] = replace(plain, graph=True)
    for way in ("dense", "ours"):
        for what, recipe in recipes.items():
            if bench.left() < 8:
                return
            for _ in range(2):  # the first compiles what it uses
                began = time.perf_counter()
                train(_subject(name, way), data, recipe, seed=0, device=bench.device, progress=False)
                elapsed = 1000 * (time.perf_counter() - began) / steps
            label = f"train, {name}, {batch}, {way}{what}"
            bench.note(label, round(elapsed, 3), "ms a step")
            if bench.device.type == "cuda":
                waits = _waits(_subject(name, way), data, recipe)
                bench.note(f"{label}: waits", round(sum(waits.values()) / steps, 2), "a step", calls=waits)


def _subject(name: str, way: str) -> EdgePopup | Dense:
    model = models.build(name, input_shape=(3, 32, 32))
    return Dense(model) if way == "dense" else EdgePopup(model, density=0.5)


def _noise(count: int, rest: int) -> DataSet:
    generator = torch.Generator().manual_seed(0)

    def examples(size: int) -> Examples:
        images = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8, generator=generator)
        return Examples(images, torch.randint(0, 10, (size,), generator=generator))

    mean, std = (0.5,) * 3, (0.25,) * 3
    return DataSet("noise", 10, (3, 32, 32), 255.0, mean, std, examples(count), examples(rest), lambda: examples(rest))


def _waits(subject: EdgePopup | Dense, data: DataSet, recipe: Recipe) -> dict[str, int]:
    """Return how often a run called what blocks the host, by name; evaluation and the run's ends are in the count."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        train(subject, data, recipe, seed=0, device="cuda", progress=False)
    return {event.key: event.count for event in profile.key_averages() if event.key in _WAITS}
