"""S7: random weights made on the GPU, against the bits of the CPU and its time."""

import time

import torch

from experiments.gpu.bench import Bench
from supermask.random.distributions import KNOWN, Fans
from supermask.random.on_device import DeviceStream, same_bits
from supermask.random.stream import Stream
from supermask.random.weights import RandomWeight


def run(bench: Bench) -> None:
    """Compare every distribution to the last bit, and time the normal one at the size of a ResNet-50."""
    held = same_bits(bench.device)
    bench.note("random weights: examples of each kind have the CPU's bits", held, right=held)
    count, fans = bench.size(1_000_000, 5_000), Fans(64, 64)
    for name, kind in KNOWN.items():
        made = kind().draw(DeviceStream(1, name, "weights", bench.device), count, fans).cpu()
        equal = torch.equal(made, torch.from_numpy(kind().draw(Stream(1, name, "weights"), count, fans)))
        bench.note(f"{name}: bits beside the CPU's", equal, right=equal)
    weight = RandomWeight((bench.size(25_000_000, 5_000),), KNOWN["kaiming_normal"](), fans)
    began = time.perf_counter()
    weight.grow(2, "w").to(bench.device)
    here = 1000 * (time.perf_counter() - began)
    there = bench.median(lambda: weight.grow(2, "w", device=bench.device), repeats=3, warm_up=1)
    bench.note("normal weights made on the CPU and copied", round(here), "ms", weights=weight.count)
    bench.note("normal weights made there", round(there, 1), "ms", weights=weight.count)
