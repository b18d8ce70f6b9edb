"""A step of the search: ours, launched one kernel after the other and captured as CUDA graphs,
against the textbook in turn, and the numbers of all against the CPU's."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_parts.part import Context
from benchmarks.supernet import CLASSES, RESOLUTION, WARM_UP, CountCalls, penalty
from latkit.search.bilevel import ORDERS, OptimizerConfig
from latkit.search.captured import CapturedSteps
from latkit.search.cuda_graphs import WARM_UP_CALLS, CudaGraphs, call
from latkit.search.supernet import SUPERNETS
from latkit.spaces import get_space
from tests.search.supernets import build_supernet
from tests.search.textbook import Textbook, TextbookSearch
from tests.search.textbook_state import to_textbook

# Relative to the largest, of losses and of gradients of α in double precision.
TOLERANCE = 1e-9
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


@dataclass(frozen=True)
class Case:
    """What is trained: the supernet's method and size, and the order of the α-step."""

    method: str
    order: int
    channels: int
    cells: int
    batch: int
    resolution: int = RESOLUTION


CASES = {
    "darts": Case("darts", 1, 16, 8, 64),
    "second-order": Case("darts", 2, 16, 8, 64),
    "pc-darts": Case("pc-darts", 1, 16, 8, 256),
}
SMALL = {name: Case(case.method, case.order, 4, 3, 4, 16) for name, case in CASES.items()}
MODES = ("fp32", "tf32", "bf16")


def step(context: Context) -> None:
    """One case: equality with the CPU, then times, launches and memory in each precision."""
    (name,) = context.arguments
    case = (SMALL if context.quick else CASES)[name]
    device = torch.device(context.device)
    context.record(case=vars(case))
    equality(context, SMALL[name], device)
    told: list[str] = []
    if context.quick and name != "darts":
        context.figure("equal")  # one case shows the logic of the comparison
        return
    for mode in MODES if context.cuda else ("fp32",):
        if mode == "bf16" and case.order == 2:
            context.record(bf16="a search refuses second order in bf16")
            continue
        result = compare(case, device, mode, context.size(5, 1), context.size(WARM_UP, 0))
        context.record(**{mode: result})
        context.record_gpu_state(f"after {mode}")
        times = " / ".join(
            f"{result[which]['step_ms']:.0f}" for which in ("textbook", "ours", "captured")
        )
        told.append(f"{mode} {times} ms (textbook / launched / captured)")
        context.figure("; ".join(told))


def equality(context: Context, case: Case, device: torch.device) -> None:
    """Losses and α-gradients in double precision: ours here, ours on the CPU, the textbook's."""
    cpu = torch.device("cpu")
    loss, gradient = gradients(case, cpu)
    pairs = {"the textbook on the CPU": textbook_gradients(case, cpu)}
    if device != cpu:
        pairs["ours on the device"] = gradients(case, device)
    errors = {}
    for name, (other_loss, other) in pairs.items():
        found = {"alpha_gradient": float((other - gradient).abs().max() / gradient.abs().max())}
        if other_loss is not None:
            found["loss"] = abs(other_loss - loss) / abs(loss)
        errors[name] = found
        worst = max(found.values())
        context.check(f"{name} as ours on the CPU", worst <= TOLERANCE, f"{worst:.1e}")
    context.record(relative_errors_fp64=errors, loss=loss)


def gradients(case: Case, device: torch.device) -> tuple[float, Tensor]:
    """Validation loss and gradient of α (and β) of one α-step of ours."""
    ours, _ = build(case, torch.float64)
    ours.to(device)
    optimizer = ORDERS[case.order](ours, OptimizerConfig(), penalty(ours.space))
    train, val = batches(case, device, torch.float64)
    loss, _, found = optimizer.arch_gradients(train, val)
    return float(loss.detach()), flat(found)


def textbook_gradients(case: Case, device: torch.device) -> tuple[float | None, Tensor]:
    """The same of the textbook from the same state; second order keeps no loss."""
    _, book = build(case, torch.float64)
    book.place(device)
    search = TextbookSearch(book, case.order == 2)
    train, val = batches(case, device, torch.float64)
    if case.order == 2:
        return None, flat(search.unrolled(train, val))
    loss = search.loss(book, val)
    return float(loss.detach()), flat(torch.autograd.grad(loss, book.architecture()))


def build(case: Case, dtype: torch.dtype) -> tuple[Any, Textbook]:
    """Both supernets with the same weights, on the CPU."""
    torch.manual_seed(0)
    space: Any = get_space("darts")
    ours = build_supernet(case.method, space, case.channels, case.cells, CLASSES).to(dtype)
    partial = SUPERNETS.get(case.method).partial
    book = Textbook(space, case.channels, case.cells, CLASSES, partial=partial)
    book.load(to_textbook(ours))
    return ours, book


def batches(
    case: Case, device: torch.device, dtype: torch.dtype, seed: int = 1
) -> list[tuple[Tensor, Tensor]]:
    """A batch to train on and one to validate on; the same numbers on every device."""
    generator = torch.Generator().manual_seed(seed)
    shape = (case.batch, 3, case.resolution, case.resolution)
    return [
        (
            torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype),
            torch.randint(CLASSES, (case.batch,), generator=generator).to(device),
        )
        for _ in range(2)
    ]


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().double().cpu().flatten() for tensor in tensors])


def compare(
    case: Case, device: torch.device, mode: str, steps: int, warm_up: int
) -> dict[str, Any]:
    """Steps of all in turn, after a warm-up: milliseconds, launches, memory.

    ``times_faster`` is of the textbook's step over the captured one, ``captured_times_faster`` of
    ours launched one kernel after the other over ours captured.
    """
    with precision(mode):
        steppers = {
            which: stepper(which, case, device, mode) for which in ("textbook", "ours", "captured")
        }
        times: dict[str, list[tuple[float, float]]] = {which: [] for which in steppers}
        for number in range(warm_up + steps):
            for which, take in steppers.items():
                pair = timed(take, device)
                if number >= warm_up:
                    times[which].append(pair)
        result: dict[str, Any] = {
            which: {
                "step_ms": statistics.median(pair[0] for pair in times[which]),
                "wall_ms": statistics.median(pair[1] for pair in times[which]),
                "steps_ms": [pair[0] for pair in times[which]],
                **memory(take, device),
                **launches(take, device),
            }
            for which, take in steppers.items()
        }
    ratios = {
        which: [
            slow[0] / fast[0] for slow, fast in zip(times[which], times["captured"], strict=True)
        ]
        for which in ("textbook", "ours")
    }
    return {
        **result,
        "times_faster": statistics.median(ratios["textbook"]),
        "captured_times_faster": statistics.median(ratios["ours"]),
        "ratios": ratios,
    }


def stepper(which: str, case: Case, device: torch.device, mode: str) -> Callable[[], None]:
    """A function that takes one step of the search."""
    ours, book = build(case, torch.float32)
    train, val = batches(case, device, torch.float32)
    if which == "textbook":
        book.place(device)
        search = TextbookSearch(book, case.order == 2)

        def take() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=mode == "bf16"):
                search.step(train, val)

        return take
    ours.to(device)
    half = "bf16" if mode == "bf16" else "fp32"
    optimizer = ORDERS[case.order](ours, OptimizerConfig(), penalty(ours.space), half)
    generator = torch.Generator().manual_seed(0)
    if which == "ours":
        return lambda: (optimizer.step(train, val, generator), None)[1]
    launch = call if device.type == "cpu" else CudaGraphs(device, _refuse)
    captured = CapturedSteps(optimizer, launch)
    for _ in range(0 if device.type == "cpu" else WARM_UP_CALLS + 1):
        captured.step(train, val, generator)
    return lambda: (captured.step(train, val, generator), None)[1]


def _refuse(line: str) -> None:
    raise RuntimeError(line)  # nothing else is to be measured in its place


@contextlib.contextmanager
def precision(mode: str) -> Iterator[None]:
    """TF32 where it is asked for, and nowhere else."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = mode == "tf32"
    try:
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


def timed(take: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Milliseconds of a step by the device's events (on a CPU, wall) and by the wall clock."""
    if device.type == "cpu":
        started = time.perf_counter()
        take()
        wall_ms = 1e3 * (time.perf_counter() - started)
        return wall_ms, wall_ms
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    started = time.perf_counter()
    begin.record()
    take()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end), 1e3 * (time.perf_counter() - started)


def memory(take: Callable[[], None], device: torch.device) -> dict[str, float]:
    """The most device memory that a step takes beyond what is held between steps, in MiB."""
    if device.type == "cpu":
        return {}
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    take()
    torch.cuda.synchronize()
    return {"peak_memory_of_a_step_mb": (torch.cuda.max_memory_allocated() - before) / 2**20}


def launches(take: Callable[[], None], device: torch.device) -> dict[str, int]:
    """Kernels that the host launches in a step, by torch.profiler, and calls of operators."""
    with CountCalls() as counter:
        take()
    counts = {"operator_calls": counter.calls}
    if device.type == "cpu":
        return counts
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        take()
        torch.cuda.synchronize()
    events = [(event.key, event.count) for event in profiler.key_averages()]
    return {**counts, "kernels_launched": count_launches(events)}


def count_launches(events: Iterable[tuple[str, int]]) -> int:
    """Launches among a profile's (name, count)s; copies and waits are none."""
    return sum(count for name, count in events if name in LAUNCHES)
