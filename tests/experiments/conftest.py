from dataclasses import replace

import pytest

from experiments.framework.report import write_report
from experiments.framework.runner import planned


@pytest.fixture
def report(tmp_path, blank_plots):
    """Carries out an experiment in this process, with other tasks if any are given, and returns its report."""

    def carry_out(experiment, tasks=None):
        if tasks is not None:
            groups = [replace(group, tasks=(task,)) for group, task in zip(experiment.groups, tasks, strict=True)]
            experiment = replace(experiment, groups=tuple(groups))
        for plan in planned(experiment, tmp_path / "runs"):
            plan.task.run(plan.path, device="cpu", data_folder=None)
        shown = write_report(experiment, tmp_path / "runs", tmp_path / "results")
        assert (tmp_path / f"results/{experiment.name}.png").read_bytes().startswith(b"\x89PNG")
        # a collected result counts only where its config comes back from JSON as the task gives it
        assert write_report(experiment, tmp_path / "no runs", tmp_path / "results") == shown
        return shown

    return carry_out
