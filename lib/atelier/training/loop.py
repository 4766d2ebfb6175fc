"""The one training loop, for every recipe.

A recipe says what is trained and what the losses are; the loop does what is the same for all of them: devices and
mixed precision (accelerate), the learning rate, clipping, averaged weights, a line of metrics and a sample picture at
intervals, checkpoints, and going on after an interruption as if there had been none.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, broadcast
from PIL import Image
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from atelier.training.averages import AveragedWeights, Meter
from atelier.training.checkpoints import (
    CHECKPOINT,
    METRICS_FILE,
    UNFINISHED,
    drop_metrics_after,
    load_moments,
    newest_checkpoint,
    read_checkpoint,
    step_of,
)
from atelier.training.data import AnyBatch, Batches
from atelier.training.interruption import Interruption
from atelier.training.recipe import Recipe, Settings, TrainingError, Turn


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

    def session_over(self, seconds: float) -> bool:
        """Whether this session has to end after so many seconds."""
        return self.stop_after is not None and seconds >= 60 * self.stop_after

    def after(self, seconds: float) -> Budget:
        """The budget that is left of this session after so many seconds of preparation."""
        if self.stop_after is None:
            return self
        return replace(self, stop_after=max(1e-6, self.stop_after - seconds / 60))

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
    metrics: the last line of metrics, empty when none was written.
    averaged: the averaged weights of what is exported, in the form in which they are stored.
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
    with Interruption() as interruption, _progress_bar(accelerator, show_progress) as bar:
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
    shown: AnyBatch | None = None  # the batch that sample pictures are made of, on the main process

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
                f"{self.folder} already holds a training, at step {step_of(newest)}. "
                "Resume it, or choose another folder for a new one."
            )
        if newest is not None:
            self._restore(newest)
        if self.accelerator.is_main_process:
            (self.folder / "samples").mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(f"{UNFINISHED}*"):
                shutil.rmtree(leftover)
            drop_metrics_after(self.folder / METRICS_FILE, self.step)
            # Kept as a copy: asking for it again later would repaint it and drop the batches already painted.
            self.shown = self.data[0].copy()
        self.accelerator.wait_for_everyone()

    # ------------------------------------------------------------------ the steps

    def go(self, interruption: Interruption, bar: tqdm) -> Outcome:
        """Step until the budget is spent or somebody interrupts; a checkpoint is left behind either way."""
        start, _ = self._agree(time.monotonic(), False)  # one clock for all processes, from the first moment on
        before = self.seconds
        saved_at = sampled_at = start
        while True:
            now, interrupted = self._agree(time.monotonic(), interruption.asked)
            self.seconds = before + now - start
            progress = self.budget.progress(self.step, self.seconds)
            if progress >= 1 or interrupted or self.budget.session_over(now - start):
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
        exported = self.recipe.for_export(self.averaged.module)
        return Outcome(self.step, self.seconds, progress >= 1, self.last_metrics, exported, pictures)

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

    def _turns(self, batch: AnyBatch, progress: float) -> Iterator[Turn]:
        """The recipe's turns, in mixed precision also where a frozen block helps, outside of any part's forward."""
        turns = self.recipe.turns(self.wrapped, batch, progress)
        while True:
            with self.accelerator.autocast():
                turn = next(turns, None)
            if turn is None:
                return
            yield turn

    def _to_device(self, batch: AnyBatch) -> AnyBatch:
        return batch.to(self.accelerator.device, self.layout)

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
        state = read_checkpoint(checkpoint / "state.pt")
        if state.get("config") != json.dumps(self.recipe.config, sort_keys=True):
            raise TrainingError(
                f"{checkpoint} was trained with other sizes or files ({state.get('config')}) than asked for now "
                f"({json.dumps(self.recipe.config, sort_keys=True)}). Use its preset, or choose another folder."
            )
        own = checkpoint / f"process-{self.accelerator.process_index}.pt"
        private = read_checkpoint(own) if own.exists() else None  # processes that are new since then have none
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
            load_moments(self.optimizers[name], state["optimizers"][name])
        self.averaged.module.load_state_dict(state["averaged"])
        self.step, self.seconds, self.last_metrics = state["step"], state["seconds"], state["metrics"]

    def _take_own(self, state: dict[str, Any]) -> None:
        device = self.accelerator.device
        self.meter = Meter.restored(state["meter"], device)
        torch.set_rng_state(state["random"])
        if "random_device" in state and device.type == "cuda":
            torch.cuda.set_rng_state(state["random_device"], device)


def _progress_bar(accelerator: Accelerator, show: bool) -> tqdm:
    layout = "{l_bar}{bar}| {elapsed}{postfix}"
    return tqdm(total=100.0, mininterval=0.5, bar_format=layout, disable=not (show and accelerator.is_main_process))


def _show(bar: tqdm, progress: float, step: int, metrics: dict[str, float], main: tuple[str, ...]) -> None:
    shown = {name: f"{metrics[name]:.4g}" for name in main if name in metrics}
    bar.set_postfix({"step": step, **shown}, refresh=False)
    bar.update(100 * progress - bar.n)
