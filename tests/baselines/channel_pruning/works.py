"""Small works for methods: what `supermask.runs.run` hands to them, without a folder of a run."""

import torch

from supermask import data
from supermask.baselines.method import RunContext
from supermask.training import train


def work_on(build, recipe, *, density=0.5, seed=0, folder=None, resume=False, dense=()):
    """Return a work on the synthetic data for a network that `build` makes."""
    data_set = data.load("synthetic", seed=seed, validation=100)

    def loop(subject, recipe, **more):
        return train(subject, data_set, recipe, checkpoint_seconds=0.0, progress=False, **more)

    def seeded():
        torch.manual_seed(seed)
        return build()

    return RunContext(
        data=data_set,
        recipe=recipe,
        seed=seed,
        density=density,
        device=torch.device("cpu"),
        build=seeded,
        loop=loop,
        folder=folder,
        stages=folder / "stages" if folder else None,
        resume=resume,
        dense=dense,
    )
