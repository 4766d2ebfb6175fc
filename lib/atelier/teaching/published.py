"""The published models in lesson 5: downloaded with the learner's consent, after a look at the disk and the memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm.auto import tqdm

from atelier.blocks.bart import Bart, BartConfig
from atelier.drawing.pipeline import Pipeline
from atelier.errors import AtelierError, missing_packages
from atelier.folders import downloads_folder
from atelier.weights.preset import find_presets
from atelier.weights.streams import on_meta_device

TRANSLATORS = {"dalle-mini": BartConfig.dalle_mini(), "dalle-mega": BartConfig.dalle_mega()}
REST = 2_000_000_000  # bytes for the VQ-GAN, the CLIP, and the feature maps of the pictures that are decoded
GIGABYTE = 1e9


def published_pipeline(
    name: str, ranker: str, consent: bool, device: torch.device, report: Callable[[str], None], pictures: int = 9
) -> Pipeline | None:
    """Load a published model and a published CLIP that ranks its pictures, and download first what is missing.

    Before a download, the sizes are reported and the disk is checked. What is complete is kept if the download is
    interrupted, and the rest is fetched by the next call.

    Args:
        name: "dalle-mini" or "dalle-mega".
        ranker: the CLIP, such as "ViT-B-32/openai"; see `load_published_clip`.
        consent: whether something may be downloaded.
        device: the device to draw on.
        report: called with sentences for the learner, also with the sentence of an error.
        pictures: the number of pictures that will be drawn together; memory is needed for them.

    Returns:
        The pipeline. None if there is too little memory, if there is no consent, or after an error.
    """
    try:
        with missing_packages():
            return _pipeline(name, ranker, consent, device, report, pictures)
    except AtelierError as fault:
        report(str(fault))
        return None


def _pipeline(
    name: str, ranker: str, consent: bool, device: torch.device, report: Callable[[str], None], pictures: int
) -> Pipeline | None:
    from atelier.weights.published.openclip import is_downloaded  # needs packages that the other lessons do not need

    needed, free = memory_needed(TRANSLATORS[name], pictures), free_memory(device)
    if free < needed:
        report(f"{name} needs {needed / GIGABYTE:.1f} GB of memory; {free / GIGABYTE:.1f} GB are free.")
        return None
    if name not in find_presets() or not is_downloaded(ranker):
        if not consent:
            report(f"{name} with the CLIP {ranker} is not on this computer, and downloading it is switched off.")
            return None
        _download(name, ranker, report)
    return Pipeline.from_pretrained(name, device=device, ranker=ranker)


def _download(name: str, ranker: str, report: Callable[[str], None]) -> None:
    """Report the sizes, check the disk for both, download the model and convert it. Loading will download the CLIP.

    Raises:
        AtelierError: if something cannot be downloaded, is altered, or does not fit on the disk.
    """
    from huggingface_hub import constants

    from atelier.weights.published.download import download, download_size
    from atelier.weights.published.hub import check_free_space
    from atelier.weights.published.openclip import published_clip_size

    missing, disk = (0, 0) if name in find_presets() else download_size(name)
    clip = published_clip_size(ranker)
    free = shutil.disk_usage(_existing(downloads_folder())).free
    report(
        f"{name}: {missing / GIGABYTE:.2f} GB to download, the CLIP {ranker}: {clip / GIGABYTE:.2f} GB, once. With the "
        f"converted model they need up to {(disk + clip) / GIGABYTE:.2f} GB; {free / GIGABYTE:.1f} GB are free."
    )
    check_free_space(downloads_folder(), disk + clip, f"{name} with its CLIP")
    check_free_space(Path(constants.HF_HUB_CACHE), missing + clip, f"{name} with its CLIP")
    with tqdm(total=0, unit="B", unit_scale=True, desc=name) as bar:

        def show(what: str, done: int, total: int) -> None:
            bar.set_description(what, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        _, remarks = download(name, report=show)
    for remark in remarks:
        report(remark)


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def memory_needed(config: BartConfig, pictures: int) -> int:
    """Compute the bytes to draw pictures of one prompt: 16-bit weights and cache of the translator, and the rest.

    Args:
        config: the sizes of the translator.
        pictures: drawn together; each has two rows in the cache, because of guidance.
    """
    weights = sum(parameter.numel() for parameter in on_meta_device(lambda: Bart(config)).parameters())
    positions = config.target_length + config.text_length
    cache = 2 * config.decoder_layers * 2 * pictures * positions * config.width  # keys and values
    return 2 * (weights + cache) + REST


def free_memory(device: torch.device) -> int:
    """The free bytes of a GPU's memory, or of the computer's."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available
