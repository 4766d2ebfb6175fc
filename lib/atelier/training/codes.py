"""Codes computed once: a store on disk of the codes that a VQ-GAN gives to pictures, and batches from the store.

Painting and encoding a picture takes longer than training the translator on it, and always gives the same codes. So the
codes are computed once, before the translator is trained:

    store.json              what the codes depend on; if it differs from what is asked for, the store is built again
    part-00000.safetensors  codes (pictures, codes of a picture) uint16, and the captions as UTF-8 JSON in uint8

Each part is written to a temporary file and then renamed. So after a kill every part is whole, and the next session
computes the missing ones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from atelier.blocks.vqgan import VQGAN
from atelier.training.data import Epochs, PictureSource, derive_seed
from atelier.training.recipe import TrainingError
from atelier.weights.storage import replace_file

STORE_FILE = "store.json"
PART_SIZE = 1024  # pictures; a part takes less than a minute on one core
ENCODE_TOGETHER = 64  # pictures
MOST_CODES = 2**16  # codes are stored in 16 bits


@dataclass(frozen=True)
class CodedBatch:
    """Pictures as codes, with their captions.

    Attributes:
        codes: (n, s) int64.
        captions: n sentences.
    """

    codes: Tensor
    captions: list[str]

    def to(self, device: torch.device | str, layout: torch.memory_format = torch.contiguous_format) -> CodedBatch:
        """Return the batch with its codes on a device. `layout` applies to pictures only and is ignored."""
        return replace(self, codes=self.codes.to(device, non_blocking=True))

    def copy(self) -> CodedBatch:
        """Return the batch with a copy of its codes."""
        return replace(self, codes=self.codes.clone())


@dataclass(frozen=True)
class StoreKey:
    """What the content of a store depends on.

    Attributes:
        vqgan: the SHA-256 of the VQ-GAN's file.
        source: `PictureSource.identity`.
        pictures: the number of pictures.
        captions: the largest number of captions per picture.
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
        folder: the folder of the store; it need not exist.
        key: what the content depends on.
    """

    def __init__(self, folder: Path, key: StoreKey) -> None:
        self.folder, self.key = folder, key

    def prepare(self) -> None:
        """Create the folder and its store.json; a store with another key is removed."""
        if self._recorded() == asdict(self.key):
            return
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        replace_file(self.folder / STORE_FILE, (json.dumps(asdict(self.key), indent=1) + "\n").encode())

    @property
    def missing(self) -> list[int]:
        """The parts not written yet; all of them if the folder holds a store with another key."""
        if self._recorded() != asdict(self.key):
            return list(range(self.key.parts))
        return [part for part in range(self.key.parts) if not self._file(part).is_file()]

    def write(self, part: int, codes: Tensor, captions: list[list[str]]) -> None:
        """Write a part.

        Args:
            part: its number.
            codes: (pictures, s).
            captions: the captions of each picture.
        """
        text = torch.frombuffer(bytearray(json.dumps(captions, ensure_ascii=False).encode()), dtype=torch.uint8)
        content = safetensors.torch.save({"codes": codes.cpu().to(torch.uint16).contiguous(), "captions": text})
        replace_file(self._file(part), content)

    def read(self) -> tuple[Tensor, list[list[str]]]:
        """Read all parts.

        Returns:
            Codes (pictures, s) uint16, and the captions of each picture.

        Raises:
            TrainingError: if the store is incomplete or a part is damaged.
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
            except Exception as fault:  # safetensors has its own class of errors
                raise TrainingError(
                    f"{self._file(part)} is damaged ({fault}); remove it, and the next session computes it again."
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


def complete_store(
    store: CodeStore,
    vqgan: VQGAN,
    source: PictureSource,
    accelerator: Accelerator,
    stop: Callable[[], bool] = lambda: False,
    show_progress: bool = True,
) -> bool:
    """Compute the missing parts of a store; the processes of a training run divide them among themselves.

    Args:
        store: the store to complete.
        vqgan: a trained VQ-GAN, in evaluation mode.
        source: the source of the pictures.
        accelerator: the accelerator of the training.
        stop: called before each part; if it returns True, the remaining parts are left for the next session.
        show_progress: whether to show a progress bar.

    Returns:
        Whether the store is complete.

    Raises:
        TrainingError: if the VQ-GAN has more codes than fit in 16 bits.
    """
    if vqgan.config.codes > MOST_CODES:
        raise TrainingError(f"The VQ-GAN has {vqgan.config.codes} codes; a store of codes holds at most {MOST_CODES}.")
    if accelerator.is_main_process:
        store.prepare()
    accelerator.wait_for_everyone()
    mine = [part for part in store.missing if part % accelerator.num_processes == accelerator.process_index]
    accelerator.wait_for_everyone()  # all processes must list the missing parts before one of them writes a part
    vqgan = vqgan.to(source.device)
    hidden = not (show_progress and accelerator.is_main_process and mine)
    for part in tqdm(mine, desc="codes", unit="part", disable=hidden):
        if stop():
            break
        pictures, captions = source.portion(part * PART_SIZE, store.key.size(part), store.key.captions)
        store.write(part, encode_pictures(vqgan, pictures), captions)
    accelerator.wait_for_everyone()
    return not store.missing


@torch.no_grad()
def encode_pictures(vqgan: VQGAN, pictures: Tensor) -> Tensor:
    """Encode pictures in groups, in float32.

    Args:
        vqgan: in evaluation mode.
        pictures: (n, 3, h, w).

    Returns:
        Codes (n, s), int64.
    """
    groups = pictures.split(ENCODE_TOGETHER)
    return torch.cat([vqgan.encode(group).indices.flatten(1) for group in groups])


class StoredCodes:
    """Endless batches from a complete store. Each epoch has every picture once, with one of its captions at random.

    Args:
        store: a complete store.
        batch_size: pictures in a batch.
        seed: the seed of the order of the pictures and the choice of captions.

    Raises:
        TrainingError: if the store is incomplete or damaged.
    """

    def __init__(self, store: CodeStore, batch_size: int, seed: int) -> None:
        self.codes, self.captions = store.read()
        self.batch_size, self.seed = batch_size, seed
        self._epochs = Epochs(len(self.captions), seed)

    def __getitem__(self, number: int) -> CodedBatch:
        """Make batch `number`.

        Raises:
            IndexError: if the number is negative.
        """
        chosen = self._epochs.batch(number, self.batch_size)
        captions = []
        for position, picture in enumerate(chosen, start=number * self.batch_size):
            wordings = self.captions[picture]
            captions.append(wordings[derive_seed(self.seed, "caption", position) % len(wordings)])
        return CodedBatch(self.codes[chosen].long(), captions)
