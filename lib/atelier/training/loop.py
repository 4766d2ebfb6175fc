"""The one training loop, for every recipe.

A recipe says what is trained and what the losses are; the loop does what is the same for all of them: devices and
mixed precision (accelerate), the learning rate, clipping, averaged weights, a line of metrics and a sample picture at
intervals, checkpoints, and going on after an interruption as if there had been none.

A training's folder:

    metrics.jsonl           one line of JSON at intervals
    samples/00001200.png    what the averaged weights draw at step 1200
    checkpoint-00001200/    everything needed to go on from step 1200; only the newest is kept
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, broadcast
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer
from tqdm.auto import tqdm

from atelier.errors import AtelierError
from atelier.training.data import Batch, Batches

METRICS_FILE = "metrics.jsonl"
CHECKPOINT = "checkpoint-"
UNFINISHED = ".unfinished-"


AnySettings = TypeVar("AnySettings", bound="Settings")
AnyModule = TypeVar("AnyModule", bound=nn.Module)


class TrainingError(AtelierError):
    """A training cannot start or go on; the message says why and what to do."""


# ---------------------------------------------------------------------------------------------- what a recipe says


@dataclass(frozen=True)
class Settings:
    """What every recipe needs to know about its optimization.

    batch_size: pictures in a batch of one process. learning_rate: the peak of the schedule.
    warmup_steps: steps of the linear rise to it. final_share: the share of it left at the end of the cosine.
    clip_norm: the largest norm of a gradient. ema_decay: of the averaged weights, reached after a warm-up.
    distinct: painted pictures, after which the same ones come again; None for always new ones. See `PaintedPictures`.
    """

    batch_size: int
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    warmup_steps: int = 100
    final_share: float = 0.02
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    distinct: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size was {self.batch_size}; a batch holds at least one picture.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate was {self.learning_rate}; it must be above 0.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay was {self.ema_decay}; it must be at least 0 and below 1.")
        if self.clip_norm <= 0:
            raise ValueError(f"clip_norm was {self.clip_norm}; it must be above 0.")

    def optimizer(self, module: nn.Module) -> Optimizer:
        """AdamW (arXiv:1711.05101); weight decay for matrices and kernels only, not for biases, norms and scales."""
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.learning_rate, betas=self.betas)


class Turn(NamedTuple):
    """One part's turn to learn: the loop steps the part's optimizer on this loss.

    part: the name of the trained part. loss: a scalar. metrics: what to report, scalars without gradient.
    """

    part: str
    loss: Tensor
    metrics: dict[str, Tensor]


class Recipe(ABC, Generic[AnySettings, AnyModule]):
    """What is trained and how; one subclass for each block.

    name: of the exported weights file. settings: of the optimization. config: the sizes, as they go into a checkpoint.
    bound_to: the SHA-256 of each file without which the exported weights mean nothing, by the file's name.
    parts: the trained modules by name; each has its own optimizer, and its forward computes its loss.
    frozen: modules that help and do not learn. exported: the module inside `parts` whose averaged weights are kept.
    main_metrics: the metrics that the progress bar shows. channels_last: whether convolutions are most of the work.
    """

    name: str
    settings: AnySettings
    config: dict[str, Any]
    parts: dict[str, nn.Module]
    frozen: dict[str, nn.Module]
    exported: AnyModule
    main_metrics: tuple[str, ...] = ("loss",)
    channels_last: bool = False
    bound_to: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def turns(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[Turn]:
        """The losses of one step, in order. The loop has stepped a turn's part when it asks for the next turn.

        parts: the trained modules, as accelerate wrapped them. progress: the share of the training done, in [0, 1].
        """

    def sample(self, averaged: AnyModule, batch: Batch) -> Tensor | None:
        """A picture (3, height, width) in [0, 1] that shows how far the averaged weights are, if there is one."""
        return None


# ---------------------------------------------------------------------------------------------- how long, how often


@dataclass(frozen=True)
class Budget:
    """How long a training is. With both given, whichever is nearer its end counts.

    steps: in all. minutes: of training time in all, over all resumed sessions.
    stop_after: minutes after which this session makes a checkpoint and leaves, whatever is left to do.
    """

    steps: int | None = None
    minutes: float | None = None
    stop_after: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise TrainingError("A training needs an end: give a number of steps, of minutes, or both.")
        for name in ("steps", "minutes", "stop_after"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise TrainingError(f"{name} was {value}; it must be above 0.")

    def progress(self, step: int, seconds: float) -> float:
        """The share of the training that is done, in [0, 1]."""
        shares = []
        if self.steps is not None:
            shares.append(step / self.steps)
        if self.minutes is not None:
            shares.append(seconds / (60 * self.minutes))
        return min(1.0, max(shares))


@dataclass(frozen=True)
class Intervals:
    """How often the loop reports and saves: metrics in steps, checkpoints and sample pictures in seconds."""

    metrics_steps: int = 50
    checkpoint_seconds: float = 60.0
    sample_seconds: float = 180.0


@dataclass(frozen=True)
class Outcome:
    """Where a training stands when the loop returns.

    step, seconds, pictures: done in all; a picture counts as often as it was seen.
    finished: whether the budget is spent (else it was interrupted and can be resumed).
    metrics: the last line of metrics, empty when none was written. averaged: the averaged weights of what is exported.
    """

    step: int
    seconds: float
    finished: bool
    metrics: dict[str, float]
    averaged: nn.Module
    pictures: int = 0


def learning_rate(settings: Settings, step: int, progress: float) -> float:
    """A linear warm-up over the first steps, times half a cosine over the whole training (arXiv:1608.03983, eq. 5)."""
    warmup = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * warmup * (settings.final_share + (1 - settings.final_share) * cosine)


def best_precision(device: torch.device | str) -> str:
    """ "bf16" where the device computes in bfloat16 faster than in float32, else "no"."""
    kind = torch.device(device).type
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    if kind != "cpu":
        return "no"
    # torch has no public name for these two questions in the oldest version we admit.
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "bf16" if any(supported is not None and supported() for supported in asked) else "no"


def quick_attention(device: torch.device) -> AbstractContextManager:
    """On a CPU, the plain form of attention: the fused one's backward pass is several times slower in bfloat16."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


class AveragedWeights:
    """An exponential moving average of a module's weights.

    The decay is warmed up as min(decay, (1 + t) / (10 + t)), so that a short training does not end with an average of
    its beginning. What gradients do not train is copied: a codebook and a BatchNorm's statistics are moving averages
    already.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        # Looked up once: a small network's step on a GPU is hardly longer than finding two hundred tensors by name.
        kept, seen = self.module.state_dict(), module.state_dict()
        trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        self._trained = [(kept[name], seen[name]) for name in seen if name in trained]
        self._copied = [(kept[name], seen[name]) for name in seen if name not in trained]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the module's weights after step `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        kept, seen = zip(*self._trained, strict=True)
        torch._foreach_lerp_(kept, seen, 1 - decay)
        for kept, seen in self._copied:
            kept.copy_(seen)


class Meter:
    """Running means of metrics between two reports."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Add one value to each metric named; they stay on their device, so that nothing waits for them."""
        for name, value in metrics.items():
            value = value.detach().double() if value.device.type != "mps" else value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The mean of each metric over the values added."""
        return {name: float(total) / self.counts[name] for name, total in self.sums.items()}

    def state(self) -> dict[str, Any]:
        """What `restored` needs."""
        return {"sums": {name: total.cpu() for name, total in self.sums.items()}, "counts": dict(self.counts)}

    @classmethod
    def restored(cls, state: dict[str, Any], device: torch.device) -> Meter:
        """A meter as it was when `state` was taken."""
        meter = cls()
        meter.sums = {name: total.to(device) for name, total in state["sums"].items()}
        meter.counts = dict(state["counts"])
        return meter


class _Interruption:
    """Notes SIGTERM and Ctrl-C, so that the loop can finish its step and save; a second Ctrl-C leaves at once."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Interruption:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


# ---------------------------------------------------------------------------------------------- the loop


def train(
    recipe: Recipe,
    data: Batches,
    folder: str | Path,
    budget: Budget,
    *,
    accelerator: Accelerator | None = None,
    seed: int = 0,
    resume: bool = False,
    intervals: Intervals | None = None,
    show_progress: bool = True,
) -> Outcome:
    """Train a recipe's parts on batches until the budget is spent or somebody interrupts.

    resume: go on from the folder's checkpoint. With a budget of steps the run then gives the same numbers as one that
    was never stopped. A folder without a checkpoint starts from the beginning. Budget and settings (learning rate,
    weights of the losses, ...) may differ from before: the training goes on with what they say now.

    Raises TrainingError when the folder holds a training and `resume` is not set, when its checkpoint has other sizes
    or does not fit the recipe's parts, or when a loss stops being finite.
    """
    accelerator = accelerator or Accelerator()
    run = _Run(recipe, data, Path(folder), budget, accelerator, intervals or Intervals())
    run.start(seed, resume)
    with _Interruption() as interruption, _progress_bar(accelerator, show_progress) as bar:
        return run.go(interruption, bar)


@dataclass
class _Run:
    """One session of a training: its state, and what happens in a step."""

    recipe: Recipe
    data: Batches
    folder: Path
    budget: Budget
    accelerator: Accelerator
    intervals: Intervals
    step: int = 0
    seconds: float = 0.0
    meter: Meter = field(default_factory=Meter)
    last_metrics: dict[str, float] = field(default_factory=dict)
    shown: Batch | None = None  # the batch that sample pictures are made of, on the main process

    def __post_init__(self) -> None:
        device, recipe = self.accelerator.device, self.recipe
        # On a CPU, bfloat16 convolutions are quicker in the usual layout.
        fits = recipe.channels_last and device.type == "cuda"
        self.layout = torch.channels_last if fits else torch.contiguous_format
        for module in [*recipe.parts.values(), *recipe.frozen.values()]:
            module.to(device=device, memory_format=self.layout)  # ty: ignore[no-matching-overload]
        self.averaged = AveragedWeights(recipe.exported, recipe.settings.ema_decay)
        self.optimizers = {name: recipe.settings.optimizer(part) for name, part in recipe.parts.items()}
        self.wrapped = {name: self.accelerator.prepare_model(part) for name, part in recipe.parts.items()}

    # ------------------------------------------------------------------ beginning

    def start(self, seed: int, resume: bool) -> None:
        """Seed the generators, or take up the folder's checkpoint."""
        torch.manual_seed(seed + self.accelerator.process_index)
        newest = newest_checkpoint(self.folder)
        if newest is not None and not resume:
            raise TrainingError(
                f"{self.folder} already holds a training, at step {_step_of(newest)}. "
                "Resume it, or choose another folder for a new one."
            )
        if newest is not None:
            self._restore(newest)
        if self.accelerator.is_main_process:
            (self.folder / "samples").mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(f"{UNFINISHED}*"):
                shutil.rmtree(leftover)
            _forget_metrics_after(self.folder / METRICS_FILE, self.step)
            # Kept, and as a copy of its own: to ask for it again would repaint it and drop the batches ahead.
            first = self.data[0]
            self.shown = replace(first, pictures=first.pictures.clone())
        self.accelerator.wait_for_everyone()

    # ------------------------------------------------------------------ the steps

    def go(self, interruption: _Interruption, bar: tqdm) -> Outcome:
        """Step until the budget is spent or somebody interrupts; a checkpoint is left behind either way."""
        start, before = time.monotonic(), self.seconds
        saved_at = sampled_at = start
        while True:
            now, interrupted = self._agree(time.monotonic(), interruption.asked)
            self.seconds = before + now - start
            progress = self.budget.progress(self.step, self.seconds)
            session_over = self.budget.stop_after is not None and now - start >= 60 * self.budget.stop_after
            if progress >= 1 or interrupted or session_over:
                break
            if now - saved_at >= self.intervals.checkpoint_seconds:
                self.save()
                saved_at = now
            if now - sampled_at >= self.intervals.sample_seconds:
                self._sample()
                sampled_at = now
            self._step(progress)
            if self.step % self.intervals.metrics_steps == 0:
                self._report(progress)
            _show(bar, progress, self.step, self.last_metrics, self.recipe.main_metrics)
        self.save()
        if progress >= 1 and self.meter.counts:
            self._report(progress)  # after saving, so that going on with a larger budget gives the same later lines
        self._sample()
        _show(bar, progress, self.step, self.last_metrics, self.recipe.main_metrics)
        pictures = self.step * self.recipe.settings.batch_size * self.accelerator.num_processes
        return Outcome(self.step, self.seconds, progress >= 1, self.last_metrics, self.averaged.module, pictures)

    def _agree(self, now: float, interrupted: bool) -> tuple[float, bool]:
        """The first process's clock, and whether anyone was interrupted: all processes must decide alike."""
        if self.accelerator.num_processes == 1:
            return now, interrupted
        device = self.accelerator.device
        asked = self.accelerator.reduce(torch.tensor([float(interrupted)], device=device), "sum")
        # The clock crosses as two float32, seconds and their fraction, since not every device has float64.
        parts = torch.tensor([now // 1, now % 1], device=device, dtype=torch.float32)
        whole, fraction = broadcast(parts).tolist()
        return whole + fraction, bool(asked.item())

    def _step(self, progress: float) -> None:
        """One batch: every part's turn, then the averaged weights."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        batch = self._to_device(self.data[self.step * processes + rank])
        rate = learning_rate(self.recipe.settings, self.step, progress)
        for part in self.wrapped.values():
            part.train()
        with quick_attention(self.accelerator.device):
            for turn in self._turns(batch, progress):
                optimizer = self.optimizers[turn.part]
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
                self.accelerator.backward(turn.loss)
                norm = self.accelerator.clip_grad_norm_(
                    self.recipe.parts[turn.part].parameters(), self.recipe.settings.clip_norm
                )
                optimizer.step()
                self.meter.add({**turn.metrics, f"{turn.part}_gradient": norm})
        self.averaged.update(self.step)
        self.step += 1

    def _turns(self, batch: Batch, progress: float) -> Iterator[Turn]:
        """The recipe's turns, in mixed precision also where a frozen block helps, outside of any part's forward."""
        turns = self.recipe.turns(self.wrapped, batch, progress)
        while True:
            with self.accelerator.autocast():
                turn = next(turns, None)
            if turn is None:
                return
            yield turn

    def _to_device(self, batch: Batch) -> Batch:
        batch = batch.to(self.accelerator.device)
        return Batch(batch.pictures.contiguous(memory_format=self.layout), batch.captions, batch.scenes)

    # ------------------------------------------------------------------ what is written

    def _report(self, progress: float) -> None:
        """One line of metrics: means over the steps since the last line, over all processes."""
        self.last_metrics = self._finite_means()
        self.meter = Meter()
        if self.accelerator.is_main_process:
            rate = learning_rate(self.recipe.settings, self.step - 1, progress)
            line = {"step": self.step, "seconds": round(self.seconds, 1), "learning_rate": rate, **self.last_metrics}
            with (self.folder / METRICS_FILE).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(line) + "\n")

    def _finite_means(self) -> dict[str, float]:
        means = self.meter.means()
        if self.accelerator.num_processes > 1 and means:
            together = torch.tensor(list(means.values()), device=self.accelerator.device)
            together = self.accelerator.reduce(together, "mean")
            means = dict(zip(means, together.tolist(), strict=True))
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise TrainingError(
                f"{', '.join(broken)} stopped being a finite number before step {self.step}. The last checkpoint in "
                f"{self.folder} is sound: resume from it with a smaller learning rate, or with precision no."
            )
        return means

    def _sample(self) -> None:
        """A picture of what the averaged weights can do. It leaves the random numbers of the training alone."""
        if self.shown is None:
            return
        device = self.accelerator.device
        devices = [device] if device.type == "cuda" else []
        unkept = AutocastKwargs(cache_enabled=False)  # a CUDA graph, as decoding records one, cannot be made otherwise
        with torch.random.fork_rng(devices=devices), torch.no_grad(), self.accelerator.autocast(unkept):
            torch.manual_seed(0)
            picture = self.recipe.sample(self.averaged.module, self._to_device(self.shown))
        if picture is not None:
            pixels = (picture.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
            Image.fromarray(pixels).save(self.folder / "samples" / f"{self.step:08d}.png")

    def save(self) -> None:
        """Write a checkpoint: whole under its name, or not at all."""
        self._finite_means()
        unfinished, final = self.folder / f"{UNFINISHED}{self.step:08d}", self.folder / f"{CHECKPOINT}{self.step:08d}"
        if final.exists():
            return
        if self.accelerator.is_main_process:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            torch.save(self._state(), unfinished / "state.pt")
        self.accelerator.wait_for_everyone()
        torch.save(self._process_state(), unfinished / f"process-{self.accelerator.process_index}.pt")
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            older = list(self.folder.glob(f"{CHECKPOINT}*"))
            unfinished.rename(final)
            for checkpoint in older:
                shutil.rmtree(checkpoint)
        self.accelerator.wait_for_everyone()

    def _state(self) -> dict[str, Any]:
        """What all processes share: tensors, numbers and names only, so that it loads without running code."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "config": json.dumps(self.recipe.config, sort_keys=True),
            "metrics": self.last_metrics,
            "parts": {name: part.state_dict() for name, part in self.recipe.parts.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "averaged": self.averaged.module.state_dict(),
        }

    def _process_state(self) -> dict[str, Any]:
        """What is each process's own: its random numbers and its running means."""
        state = {"meter": self.meter.state(), "random": torch.get_rng_state()}
        if self.accelerator.device.type == "cuda":
            state["random_device"] = torch.cuda.get_rng_state(self.accelerator.device)
        return state

    def _restore(self, checkpoint: Path) -> None:
        state = _read_checkpoint(checkpoint / "state.pt")
        if state.get("config") != json.dumps(self.recipe.config, sort_keys=True):
            raise TrainingError(
                f"{checkpoint} was trained with other sizes or files ({state.get('config')}) than asked for now "
                f"({json.dumps(self.recipe.config, sort_keys=True)}). Use its preset, or choose another folder."
            )
        own = checkpoint / f"process-{self.accelerator.process_index}.pt"
        private = _read_checkpoint(own) if own.exists() else None  # processes that are new since then have none
        try:
            self._take(state)
            if private is not None:
                self._take_own(private)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as fault:
            said = " ".join(str(fault).split())[:300]
            raise TrainingError(
                f"{checkpoint} does not fit what is to be trained now ({type(fault).__name__}: {said}). "
                "Undo what was changed in the preset's recipe, or choose another folder for a new training."
            ) from fault

    def _take(self, state: dict[str, Any]) -> None:
        for name, part in self.recipe.parts.items():
            part.load_state_dict(state["parts"][name])
            _load_moments(self.optimizers[name], state["optimizers"][name])
        self.averaged.module.load_state_dict(state["averaged"])
        self.step, self.seconds, self.last_metrics = state["step"], state["seconds"], state["metrics"]

    def _take_own(self, state: dict[str, Any]) -> None:
        device = self.accelerator.device
        self.meter = Meter.restored(state["meter"], device)
        torch.set_rng_state(state["random"])
        if "random_device" in state and device.type == "cuda":
            torch.cuda.set_rng_state(state["random_device"], device)


# ---------------------------------------------------------------------------------------------- folders and files


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of a training's folder with the highest step, or None."""
    return max(Path(folder).glob(f"{CHECKPOINT}*"), key=_step_of, default=None)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(CHECKPOINT))


def _read_checkpoint(file: Path) -> dict[str, Any]:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as fault:  # torch.load fails with a dozen different types
        raise TrainingError(
            f"{file} cannot be read ({type(fault).__name__}); remove {file.parent} and start that training again."
        ) from fault


def _load_moments(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Take up an optimizer's moments, but not its settings: those are as the recipe says now."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, now in zip(optimizer.param_groups, settings, strict=True):
        group.update(now)


def _forget_metrics_after(file: Path, step: int) -> None:
    """Drop the lines that an interrupted session wrote after its last checkpoint: they will be written again."""
    if not file.exists():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError, TypeError):
            continue  # the kill fell into the middle of this line
    replacement = file.with_suffix(".new")
    replacement.write_text("".join(kept), encoding="utf-8")
    replacement.replace(file)


def _progress_bar(accelerator: Accelerator, show: bool) -> tqdm:
    layout = "{l_bar}{bar}| {elapsed}{postfix}"
    return tqdm(total=100.0, mininterval=0.5, bar_format=layout, disable=not (show and accelerator.is_main_process))


def _show(bar: tqdm, progress: float, step: int, metrics: dict[str, float], main: tuple[str, ...]) -> None:
    shown = {name: f"{metrics[name]:.4g}" for name in main if name in metrics}
    bar.set_postfix({"step": step, **shown}, refresh=False)
    bar.update(100 * progress - bar.n)
