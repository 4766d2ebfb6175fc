"""Codes computed once: a store on disk of what a VQ-GAN makes of pictures, and batches from it.

Painting and encoding a picture costs more than a step of the translator, and always gives the same codes. So they are
computed once, in parts, before the translator is trained:

    store.json              what the codes depend on; a store of anything else is started again
    part-00000.safetensors  codes (pictures, codes of a picture) uint16, and the captions as UTF-8 JSON in uint8

Every part is written whole or not at all. The store is complete when all parts are there, so one that was cut off by a
kill is continued and never taken for complete.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from atelier.blocks.vqgan import VQGAN
from atelier.training.data import Epochs, PictureSource, mixed_seed
from atelier.training.recipe import TrainingError
from atelier.weights.storage import replace_file

STORE_FILE = "store.json"
PART_SIZE = 1024  # pictures; one part takes less than a minute of one core
ENCODE_TOGETHER = 64
MOST_CODES = 2**16  # what two bytes can hold


@dataclass(frozen=True)
class CodedBatch:
    """Pictures as codes, with their captions.

    codes: (n, s) int64. captions: n sentences.
    """

    codes: Tensor
    captions: list[str]

    def to(self, device: torch.device | str, layout: torch.memory_format = torch.contiguous_format) -> CodedBatch:
        """The same batch with its codes on another device; `layout` is of pictures and does not apply."""
        return replace(self, codes=self.codes.to(device, non_blocking=True))

    def copy(self) -> CodedBatch:
        """The same batch with codes of its own."""
        return replace(self, codes=self.codes.clone())


@dataclass(frozen=True)
class StoreKey:
    """What the codes of a store depend on.

    vqgan: the SHA-256 of its file. source: `PictureSource.identity`. pictures: how many. captions: the most for each.
    """

    vqgan: str
    source: str
    pictures: int
    captions: int

    @property
    def parts(self) -> int:
        """The number of parts of a complete store."""
        return -(-self.pictures // PART_SIZE)

    def size(self, part: int) -> int:
        """The number of pictures in a part."""
        return min(PART_SIZE, self.pictures - part * PART_SIZE)


class CodeStore:
    """A store of codes in a folder, complete or not.

    Args:
        folder: of the store; it need not exist.
        key: what the codes depend on. A store that depends on anything else is removed.
    """

    def __init__(self, folder: Path, key: StoreKey) -> None:
        self.folder, self.key = folder, key

    def begin(self) -> None:
        """Make the folder ready for parts of this key."""
        if self._recorded() == asdict(self.key):
            return
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        replace_file(self.folder / STORE_FILE, (json.dumps(asdict(self.key), indent=1) + "\n").encode())

    @property
    def missing(self) -> list[int]:
        """The parts that are still to be written; all of them if the folder holds another store."""
        if self._recorded() != asdict(self.key):
            return list(range(self.key.parts))
        return [part for part in range(self.key.parts) if not self._file(part).is_file()]

    def write(self, part: int, codes: Tensor, captions: list[list[str]]) -> None:
        """Write a part: codes (pictures, s), and the captions of each picture."""
        text = torch.frombuffer(bytearray(json.dumps(captions, ensure_ascii=False).encode()), dtype=torch.uint8)
        content = safetensors.torch.save({"codes": codes.cpu().to(torch.uint16).contiguous(), "captions": text})
        replace_file(self._file(part), content)

    def read(self) -> tuple[Tensor, list[list[str]]]:
        """All codes (pictures, s) uint16, and the captions of each picture.

        Raises:
            TrainingError: if the store is not complete, or a part is damaged.
        """
        if self.missing:
            raise TrainingError(f"{self.folder} lacks {len(self.missing)} of its {self.key.parts} parts.")
        codes, captions = [], []
        for part in range(self.key.parts):
            try:
                content = safetensors.torch.load(self._file(part).read_bytes())
                found = json.loads(content["captions"].numpy().tobytes())
                if not len(found) == len(content["codes"]) == self.key.size(part):
                    raise ValueError(f"it holds {len(found)} pictures instead of {self.key.size(part)}")
            except Exception as fault:  # safetensors raises an error class of its own
                raise TrainingError(
                    f"{self._file(part)} is damaged ({fault}); remove it, and it is computed again."
                ) from fault
            codes.append(content["codes"])
            captions += found
        return torch.cat(codes), captions

    def _file(self, part: int) -> Path:
        return self.folder / f"part-{part:05d}.safetensors"

    def _recorded(self) -> object:
        try:
            return json.loads((self.folder / STORE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def complete(
    store: CodeStore,
    vqgan: VQGAN,
    source: PictureSource,
    accelerator: Accelerator,
    stop: Callable[[], bool] = lambda: False,
    show_progress: bool = True,
) -> bool:
    """Compute the parts that a store lacks; several processes share them.

    Args:
        store: what is to be completed.
        vqgan: a finished one, in evaluation mode.
        source: of the pictures.
        accelerator: of the training.
        stop: asked before each part; if it says so, the rest is left to the next session.
        show_progress: whether a bar shows the parts.

    Returns:
        Whether the store is complete.

    Raises:
        TrainingError: if the VQ-GAN has more codes than two bytes can count.
    """
    if vqgan.config.codes > MOST_CODES:
        raise TrainingError(f"The VQ-GAN has {vqgan.config.codes} codes; a store of codes holds at most {MOST_CODES}.")
    if accelerator.is_main_process:
        store.begin()
    accelerator.wait_for_everyone()
    mine = [part for part in store.missing if part % accelerator.num_processes == accelerator.process_index]
    accelerator.wait_for_everyone()  # only now may a part appear
    vqgan = vqgan.to(source.device)
    hidden = not (show_progress and accelerator.is_main_process and mine)
    for part in tqdm(mine, desc="codes", unit="part", disable=hidden):
        if stop():
            break
        pictures, captions = source.portion(part * PART_SIZE, store.key.size(part), store.key.captions)
        store.write(part, encoded(vqgan, pictures), captions)
    accelerator.wait_for_everyone()
    return not store.missing


@torch.no_grad()
def encoded(vqgan: VQGAN, pictures: Tensor) -> Tensor:
    """The codes (n, s) int64 of pictures (n, 3, h, w), in float32."""
    some = pictures.split(ENCODE_TOGETHER)
    return torch.cat([vqgan.encode(group).indices.flatten(1) for group in some])


class StoredCodes:
    """Endless batches from a complete store. In each epoch a picture comes once, with one of its captions at random.

    Args:
        store: a complete one.
        batch_size: pictures in a batch.
        seed: two seeds give other orders and other choices of captions.

    Raises:
        TrainingError: if the store is not complete, or damaged.
    """

    def __init__(self, store: CodeStore, batch_size: int, seed: int) -> None:
        self.codes, self.captions = store.read()
        self.batch_size, self.seed = batch_size, seed
        self._epochs = Epochs(len(self.captions), seed)

    def __len__(self) -> int:
        """The number of pictures in the store."""
        return len(self.captions)

    def __getitem__(self, number: int) -> CodedBatch:
        """Batch `number`. Raises IndexError for a negative number."""
        chosen = self._epochs.batch(number, self.batch_size)
        first = number * self.batch_size
        texts = [self._caption(picture, first + place) for place, picture in enumerate(chosen)]
        return CodedBatch(self.codes[chosen].long(), texts)

    def _caption(self, picture: int, position: int) -> str:
        options = self.captions[picture]
        return options[mixed_seed(self.seed, "caption", position) % len(options)]


def seconds_left(deadline: float | None) -> Callable[[], bool]:
    """A `stop` for `complete`: whether a moment of `time.monotonic` has passed; None never does."""
    return lambda: deadline is not None and time.monotonic() >= deadline
