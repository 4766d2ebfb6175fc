"""The training loop, the same for all recipes.

A recipe defines the modules to train and their losses. The loop does the rest: devices and mixed precision
(accelerate), learning rates, gradient clipping, averaged weights, metrics and sample pictures, checkpoints, and
resuming.
"""

from __future__ import annotations

import io
import json
import logging
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
    STATE_FILE,
    UNFINISHED,
    checkpoints,
    drop_metrics_after,
    load_optimizer_state,
    newest_checkpoint,
    read_checkpoint,
    set_damaged_aside,
    step_of,
)
from atelier.training.data import AnyBatch, Batches
from atelier.training.interruption import Interruption
from atelier.training.recipe import PartLoss, Recipe, Settings, TrainingError
from atelier.weights.storage import replace_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """The length of a training run, in steps, in minutes or both; the run ends at the limit that is reached first.

    Attributes:
        steps: total steps, over all sessions.
        minutes: total minutes of training, over all sessions.
        stop_after: minutes after which this session saves a checkpoint and ends, even if the run is not finished.

    Raises:
        TrainingError: if neither steps nor minutes are given, or if one of the numbers is not above 0.
    """

    steps: int | None = None
    minutes: float | None = None
    stop_after: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise TrainingError("Training needs a limit: give a number of steps, a number of minutes, or both.")
        for name in ("steps", "minutes", "stop_after"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise TrainingError(f"{name} is {value}; it must be a finite number above 0.")

    def session_over(self, seconds: float) -> bool:
        """Return whether this session must end, given the seconds since it began."""
        return self.stop_after is not None and seconds >= 60 * self.stop_after

    def after(self, seconds: float) -> Budget:
        """Return the budget that is left if the preparation took the given seconds: `stop_after` is reduced by them."""
        if self.stop_after is None:
            return self
        return replace(self, stop_after=max(1e-6, self.stop_after - seconds / 60))

    def progress(self, step: int, seconds: float) -> float:
        """Compute the progress of the run, in [0, 1]; with two limits, the one nearer its end counts."""
        shares = []
        if self.steps is not None:
            shares.append(step / self.steps)
        if self.minutes is not None:
            shares.append(seconds / (60 * self.minutes))
        return min(1.0, max(shares))


@dataclass(frozen=True)
class Intervals:
    """How often the loop writes metrics, checkpoints and sample pictures.

    Attributes:
        metrics_steps: steps between two lines of metrics.
        checkpoint_seconds: seconds between two checkpoints.
        sample_seconds: seconds between two sample pictures.
    """

    metrics_steps: int = 50
    checkpoint_seconds: float = 60.0
    sample_seconds: float = 180.0


@dataclass(frozen=True)
class Outcome:
    """The state of a training run when the loop returns.

    Attributes:
        step: total steps, over all sessions.
        seconds: total seconds of training, over all sessions.
        finished: whether the budget is spent; if not, the run was interrupted and can be resumed.
        metrics: the last line of metrics; empty if no line has been written yet.
        averaged: the module that is exported, with its averaged weights.
        pictures: total training pictures, over all sessions and processes; repetitions are counted.
        prepared: whether the data were ready; if not, the session ended before its first step and saved no weights.
    """

    step: int
    seconds: float
    finished: bool
    metrics: dict[str, float]
    averaged: nn.Module
    pictures: int = 0
    prepared: bool = True

    @property
    def in_words(self) -> str:
        """The steps and minutes of training, as part of a sentence."""
        return f"step {self.step}, after {self.seconds / 60:.1f} minutes of training"


def learning_rate(settings: Settings, step: int, progress: float) -> float:
    """Compute the learning rate: a linear warm-up times cosine annealing over the run (arXiv:1608.03983, eq. 5).

    Args:
        settings: the recipe's settings.
        step: the number of the step, counted from 0.
        progress: the progress of the run, in [0, 1].
    """
    warmup = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * warmup * (settings.final_share + (1 - settings.final_share) * cosine)


def best_precision(device: torch.device | str) -> str:
    """Choose the mixed precision for a device.

    Returns:
        "bf16" if the device has bfloat16 instructions, else "no".
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    if kind != "cpu":
        return "no"
    # These two functions are not public in the oldest supported version of torch.
    queries = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "bf16" if any(supported is not None and supported() for supported in queries) else "no"


def attention_backend(device: torch.device) -> AbstractContextManager:
    """Choose plain attention on a CPU: the backward pass of fused attention is several times slower in bfloat16."""
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
    """Train the parts of a recipe until the budget is spent or a signal interrupts the run.

    Args:
        recipe: the modules to train, with their losses and settings.
        data: the batches.
        folder: the folder of the run, for its checkpoints and metrics.
        budget: how long to train.
        accelerator: the device, precision and processes; None: accelerate's defaults.
        seed: the seed of the random numbers.
        resume: continue from the checkpoint in the folder, or start if there is no checkpoint. With a budget of steps,
            on a CPU with one thread for each process, a resumed run gives the same numbers as an uninterrupted one; on
            a GPU sums have no fixed order. The budget and the settings (learning rate, loss weights, ...) may differ
            from those of the earlier session; the new values apply.
        intervals: how often to write metrics, checkpoints and sample pictures.
        show_progress: whether to show a progress bar.

    Raises:
        TrainingError: if the folder already holds a training run and `resume` is False, if the checkpoint has other
            sizes or does not fit the recipe's parts, or if a loss is not finite.
    """
    accelerator = accelerator or Accelerator()
    session = _Session(recipe, data, Path(folder), budget, accelerator, intervals or Intervals())
    session.start(seed, resume)
    with Interruption() as interruption, _progress_bar(accelerator, show_progress) as bar:
        return session.run(interruption, bar)


@dataclass
class _Session:
    """One session of a training run.

    Attributes:
        recipe, data, folder, budget, accelerator, intervals: as for `train`.
        step: steps so far, including those of earlier sessions.
        seconds: seconds of training so far, including those of earlier sessions.
        meter: the running means of the metrics since the last line of metrics.
        last_metrics: the last line of metrics.
        sample_batch: the batch for sample pictures, on the main process.
        last_checkpoint: the checkpoint that was written or loaded last; the next checkpoint replaces it.
        replaced: the name of the checkpoint that `last_checkpoint` replaced.
    """

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
    sample_batch: AnyBatch | None = None
    last_checkpoint: Path | None = None
    replaced: str | None = None

    def __post_init__(self) -> None:
        device, recipe = self.accelerator.device, self.recipe
        # On a CPU, bfloat16 convolutions are faster in the contiguous layout.
        channels_last = recipe.channels_last and device.type == "cuda"
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        for module in [*recipe.parts.values(), *recipe.frozen.values()]:
            module.to(device=device, memory_format=self.layout)  # ty: ignore[no-matching-overload]
        self.optimizers = {name: recipe.settings.optimizer(part) for name, part in recipe.parts.items()}
        self.wrapped = {name: self.accelerator.prepare_model(part) for name, part in recipe.parts.items()}
        # This must follow `prepare_model`, which moves the tensors to new storage if several processes train a module.
        self.averaged = AveragedWeights(recipe.exported, recipe.settings.ema_decay)

    # ------------------------------------------------------------------ start

    def start(self, seed: int, resume: bool) -> None:
        """Seed the random numbers, load the newest checkpoint if there is one, and prepare the folder."""
        torch.manual_seed(seed + self.accelerator.process_index)
        if resume and self.accelerator.is_main_process:
            set_damaged_aside(self.folder)
        self.accelerator.wait_for_everyone()
        newest = newest_checkpoint(self.folder)
        if newest is not None and not resume:
            raise TrainingError(
                f"{self.folder} already holds a training run, at step {step_of(newest)}. "
                "Resume it, or choose another folder for a new run."
            )
        if newest is not None:
            self._restore(newest)
            self._remove_replaced(newest)
        if self.accelerator.is_main_process:
            (self.folder / "samples").mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(f"{UNFINISHED}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            drop_metrics_after(self.folder / METRICS_FILE, self.step)
            # The batch may be a view of a whole group of painted batches; a copy lets the group be freed.
            self.sample_batch = self.data[0].copy()
        self.accelerator.wait_for_everyone()

    def _remove_replaced(self, newest: Path) -> None:
        """Remove the checkpoint that the newest one replaced, if the last session was killed before it did so."""
        self.last_checkpoint, replaced = newest, self.replaced
        if self.accelerator.is_main_process and replaced is not None and replaced != newest.name:
            for checkpoint in checkpoints(self.folder):
                if checkpoint.name == replaced:
                    _remove(checkpoint)

    # ------------------------------------------------------------------ the steps

    def run(self, interruption: Interruption, bar: tqdm) -> Outcome:
        """Train until the budget is spent or a signal interrupts the run; in both cases, save a checkpoint."""
        start, _ = self._synchronize(time.monotonic(), False)  # all processes use the clock of the first one
        before = self.seconds
        saved_at = sampled_at = start
        while True:
            now, interrupted = self._synchronize(time.monotonic(), interruption.asked)
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
            # This line is not in the checkpoint, so a run resumed with a larger budget writes the same later lines.
            self._report(progress)
        self._sample()
        _show(bar, progress, self.step, self.last_metrics, self.recipe.main_metrics)
        pictures = self.step * self.recipe.settings.batch_size * self.accelerator.num_processes
        exported = self.recipe.for_export(self.averaged.module)
        return Outcome(
            step=self.step,
            seconds=self.seconds,
            finished=progress >= 1,
            metrics=self.last_metrics,
            averaged=exported,
            pictures=pictures,
        )

    def _synchronize(self, now: float, interrupted: bool) -> tuple[float, bool]:
        """Give all processes the same values: the first process's time, and whether any process was interrupted."""
        if self.accelerator.num_processes == 1:
            return now, interrupted
        device = self.accelerator.device
        interruptions = self.accelerator.reduce(torch.tensor([float(interrupted)], device=device), "sum")
        # Some devices have no float64, so the time is sent as two float32: whole seconds and the fraction.
        parts = torch.tensor([now // 1, now % 1], device=device, dtype=torch.float32)
        whole, fraction = broadcast(parts).tolist()
        return whole + fraction, bool(interruptions.item())

    def _step(self, progress: float) -> None:
        """Train on one batch: one optimizer step for each part, then an update of the averaged weights."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        batch = self.data[self.step * processes + rank].to(self.accelerator.device, self.layout)
        rate = learning_rate(self.recipe.settings, self.step, progress)
        for part in self.wrapped.values():
            part.train()
        with attention_backend(self.accelerator.device):
            for part_loss in self._losses(batch, progress):
                optimizer = self.optimizers[part_loss.part]
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
                self.accelerator.backward(part_loss.loss)
                norm = self.accelerator.clip_grad_norm_(
                    self.recipe.parts[part_loss.part].parameters(), self.recipe.settings.clip_norm
                )
                optimizer.step()
                self.meter.add({**part_loss.metrics, f"{part_loss.part}_gradient": norm})
        self.averaged.update(self.step)
        self.step += 1

    def _losses(self, batch: AnyBatch, progress: float) -> Iterator[PartLoss]:
        """Yield the recipe's losses. Autocast is on while the recipe computes, and off while the loop uses a loss."""
        losses = self.recipe.losses(self.wrapped, batch, progress)
        while True:
            with self.accelerator.autocast():
                part_loss = next(losses, None)
            if part_loss is None:
                return
            yield part_loss

    # ------------------------------------------------------------------ metrics, samples, checkpoints

    def _report(self, progress: float) -> None:
        """Write a line of metrics: the means over all processes and over the steps since the last line."""
        self.last_metrics = self._means()
        self.meter = Meter()
        self._check_finite(self.last_metrics)
        rate = learning_rate(self.recipe.settings, self.step - 1, progress)
        line = {"step": self.step, "seconds": round(self.seconds, 1), "learning_rate": rate, **self.last_metrics}
        self.accelerator.log(line, step=self.step)  # for the trackers; has no effect without a tracker
        if self.accelerator.is_main_process:
            with (self.folder / METRICS_FILE).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(line) + "\n")

    def _means(self) -> dict[str, float]:
        """Compute the means of the metrics over all processes and over the steps since the last line."""
        means = self.meter.means()
        if self.accelerator.num_processes > 1 and means:
            together = torch.tensor(list(means.values()), device=self.accelerator.device)
            together = self.accelerator.reduce(together, "mean")
            means = dict(zip(means, together.tolist(), strict=True))
        return means

    def _check_finite(self, means: dict[str, float]) -> None:
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            again = (
                "Start again" if self.last_checkpoint is None else f"Resume from the last checkpoint in {self.folder}"
            )
            raise TrainingError(
                f"{', '.join(broken)} became NaN or infinite before step {self.step}. {again} with a smaller "
                "learning rate, or in float32 (precision no)."
            )

    def _sample(self) -> None:
        """Save a sample picture made with the averaged weights, without changing the state of the random numbers."""
        if self.sample_batch is None:
            return
        device = self.accelerator.device
        devices = [device] if device.type == "cuda" else []
        uncached = AutocastKwargs(cache_enabled=False)  # needed to capture the CUDA graph of decoding
        with torch.random.fork_rng(devices=devices), torch.no_grad(), self.accelerator.autocast(uncached):
            torch.manual_seed(0)
            picture = self.recipe.sample(self.averaged.module, self.sample_batch.to(device, self.layout))
        if picture is not None:
            pixels = (picture.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, format="png")
            replace_file(self.folder / "samples" / f"{self.step:08d}.png", content.getvalue())

    def save(self) -> None:
        """Write a checkpoint to a temporary folder and rename it, so that a killed run leaves no partial checkpoint."""
        self._check_finite(self._means())
        unfinished, final = self.folder / f"{UNFINISHED}{self.step:08d}", self.folder / f"{CHECKPOINT}{self.step:08d}"
        if final.exists():
            return
        try:
            self._write(unfinished, final)
        except (OSError, RuntimeError) as fault:  # torch.save raises a RuntimeError if the disk is full
            shutil.rmtree(unfinished, ignore_errors=True)
            reason = " ".join(str(fault).split())[:200]
            free = shutil.disk_usage(self.folder).free / 1e6
            last = "" if self.last_checkpoint is None else f"; --resume continues from {self.last_checkpoint.name}"
            raise TrainingError(
                f"The checkpoint of step {self.step} could not be written to {self.folder} ({reason}; {free:.0f} MB "
                f"are free). Free some space{last}."
            ) from fault

    def _write(self, unfinished: Path, final: Path) -> None:
        """Write a checkpoint, then remove the one that it replaces."""
        if self.accelerator.is_main_process:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            torch.save(self._state(), unfinished / STATE_FILE)
        self.accelerator.wait_for_everyone()
        torch.save(self._process_state(), unfinished / f"process-{self.accelerator.process_index}.pt")
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            unfinished.rename(final)
            if self.last_checkpoint is not None:
                _remove(self.last_checkpoint)
        self.last_checkpoint = final
        self.accelerator.wait_for_everyone()

    def _state(self) -> dict[str, Any]:
        """The state that all processes share: tensors, numbers and strings, which can be loaded with weights_only."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "config": json.dumps(self.recipe.config, sort_keys=True),
            "metrics": self.last_metrics,
            "replaces": None if self.last_checkpoint is None else self.last_checkpoint.name,
            "parts": {name: part.state_dict() for name, part in self.recipe.parts.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "averaged": self.averaged.module.state_dict(),
        }

    def _process_state(self) -> dict[str, Any]:
        """The state of this process: its random number generators and its running means."""
        state = {"meter": self.meter.state(), "random": torch.get_rng_state()}
        if self.accelerator.device.type == "cuda":
            state["random_device"] = torch.cuda.get_rng_state(self.accelerator.device)
        return state

    def _restore(self, checkpoint: Path) -> None:
        state = read_checkpoint(checkpoint / STATE_FILE)
        if state.get("config") != json.dumps(self.recipe.config, sort_keys=True):
            raise TrainingError(
                f"{checkpoint} belongs to a run with other sizes or files: {state.get('config')}; this run has "
                f"{json.dumps(self.recipe.config, sort_keys=True)}. Use the preset of that run, or choose another "
                "folder."
            )
        file = checkpoint / f"process-{self.accelerator.process_index}.pt"
        process_state = read_checkpoint(file) if file.exists() else None  # the earlier session had fewer processes
        try:
            self._load_state(state)
            if process_state is not None:
                self._load_process_state(process_state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as fault:
            message = " ".join(str(fault).split())[:300]
            raise TrainingError(
                f"{checkpoint} does not fit the modules and optimizers of this run "
                f"({type(fault).__name__}: {message}). "
                "Undo the change in the preset's recipe, or choose another folder for a new run."
            ) from fault

    def _load_state(self, state: dict[str, Any]) -> None:
        for name, part in self.recipe.parts.items():
            part.load_state_dict(state["parts"][name])
            load_optimizer_state(self.optimizers[name], state["optimizers"][name])
        self.averaged.module.load_state_dict(state["averaged"])
        self.step, self.seconds, self.last_metrics = state["step"], state["seconds"], state["metrics"]
        self.replaced = state.get("replaces")

    def _load_process_state(self, state: dict[str, Any]) -> None:
        device = self.accelerator.device
        self.meter = Meter.restored(state["meter"], device)
        torch.set_rng_state(state["random"])
        if "random_device" in state and device.type == "cuda":
            torch.cuda.set_rng_state(state["random_device"], device)


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint that a newer one replaces. A failure is logged: it must not end the run."""
    try:
        shutil.rmtree(checkpoint)
    except OSError as fault:
        logger.warning("The old checkpoint %s could not be removed: %s", checkpoint, fault)


def _progress_bar(accelerator: Accelerator, show: bool) -> tqdm:
    layout = "{l_bar}{bar}| {elapsed}{postfix}"
    return tqdm(total=100.0, mininterval=0.5, bar_format=layout, disable=not (show and accelerator.is_main_process))


def _show(bar: tqdm, progress: float, step: int, metrics: dict[str, float], main: tuple[str, ...]) -> None:
    shown = {name: f"{metrics[name]:.4g}" for name in main if name in metrics}
    bar.set_postfix({"step": step, **shown}, refresh=False)
    bar.update(100 * progress - bar.n)
