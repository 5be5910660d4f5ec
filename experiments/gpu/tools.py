"""S9 and S10: NVIDIA's own tools over a few selections, where they are installed."""

import re
import shutil
import subprocess
import sys

import torch

from experiments.gpu.bench import Bench

_KERNELS = "histogram|count_ties|find_cut|write|mask_weights|straight_through"


def sanitize(bench: Bench) -> None:
    """Look for bad accesses and races in three selections among 20,000 scores."""
    tool = shutil.which("compute-sanitizer")
    if tool is None or bench.device.type != "cuda":
        bench.note("compute-sanitizer", "not here")
        return
    for check in ("memcheck", "racecheck"):
        done = _under(bench, [tool, "--tool", check, "--error-exitcode", "9"], 20_000)
        if done is None:
            return
        summary = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (.*)", done.stdout + done.stderr)
        bench.note(check, summary[-1] if summary else f"exit {done.returncode}", right=done.returncode == 0)


def count(bench: Bench) -> None:
    """Read the memory traffic and the busiest pipe of each kernel over 25 million scores."""
    tool = shutil.which("ncu")
    if tool is None or bench.device.type != "cuda":
        bench.note("ncu", "not here")
        return
    metrics = "gpu__time_duration.sum,dram__bytes.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed"
    done = _under(
        bench, [tool, "--clock-control", "none", "--metrics", metrics, "-k", f"regex:{_KERNELS}", "--csv"], 25_000_000
    )
    if done is None:
        return
    bench.path.with_name("ncu.csv").write_text(done.stdout)
    for line in done.stdout.splitlines():
        cells = [cell.strip('"') for cell in line.split('","')]
        if len(cells) > 12 and cells[0].isdigit():
            bench.note(f"{cells[4]} {cells[-3]}", cells[-1], cells[-2])


def _under(bench: Bench, command: list[str], size: int) -> "subprocess.CompletedProcess[str] | None":
    run = [*command, sys.executable, "-m", "experiments.gpu.tools", str(size)]
    try:
        return subprocess.run(run, capture_output=True, text=True, timeout=max(5.0, bench.left() - 1))
    except subprocess.TimeoutExpired:
        bench.note(command[0].rpartition("/")[2], "stopped at the time limit")
        return None


def _selections(size: int) -> None:
    """Select three times as a training step does: scores move, mask and weights follow."""
    from supermask.masking.kernels.gpu import GpuSelector
    from supermask.masking.kernels.top_k import TopK, Weights

    scores = torch.randn(size, device="cuda")
    problem = TopK(
        (scores,),
        size // 2,
        (torch.zeros_like(scores, dtype=torch.bool),),
        (Weights(torch.randn_like(scores), torch.zeros_like(scores)),),
    )
    selector = GpuSelector(False)
    for _ in range(3):
        scores.add_(1e-3)
        selector.select([problem])
    torch.cuda.synchronize()


if __name__ == "__main__":
    _selections(int(sys.argv[1]))
