"""Results of runs, made up: what `run_controls` returns, with accuracies of choice."""

from supermask.judge.result import ControlResult, UntrainedScores
from supermask.training.result import Evaluation, Scored

STOP = 50


def result(
    name, seed, accuracy, untrained=0.1, *, strong=False, parameters=30, stop=STOP, validation=100, total=10**6, **more
):
    """Return a result whose smallest validation loss is at step `stop`."""
    history = tuple(Evaluation(step, 1.0, accuracy, 1.0 + abs(step - stop), 0.1) for step in range(0, 101, 10))
    recipe = {"epochs": 1}
    config = {"control": name, "ticket": f"digest {seed}", "seed": seed, "data": "digits", "validation": validation}
    return ControlResult(
        config={**config, "recipe": recipe},
        test=scored(accuracy, total),
        validation=scored(accuracy, validation),
        untrained=UntrainedScores(scored(untrained, validation), scored(untrained, total)),
        history=history,
        best_step=100,
        steps=100,
        seconds=1.0,
        strong=strong,
        parameters=parameters,
        **more,
    )


def scored(accuracy, total):
    return Scored(round(accuracy * total), total, 1.0, accuracy)


def trial(networks, **more):
    """Return the results of several seeds: name to its accuracies, one per seed, and what its results hold besides."""
    seeds = len(next(iter(networks.values())))
    return [
        {
            name: result(name, seed, values[seed], **({"parameters": 100} if name == "dense" else {}), **more)
            for name, values in networks.items()
        }
        for seed in range(seeds)
    ]


def by_name(seeds):
    """Return name to results, as the verdicts take them."""
    return {name: [each[name] for each in seeds] for name in seeds[0]}
