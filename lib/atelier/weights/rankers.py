"""Which CLIP ranks a preset's pictures: its own, or a published one."""

from __future__ import annotations

from atelier.blocks.clip import CLIP
from atelier.weights.preset import Preset
from atelier.weights.tokenizer import CutsText


def load_ranker(preset: Preset, published: str | None = None) -> tuple[CLIP | None, CutsText | None]:
    """A CLIP and its tokenizer, or two Nones for a preset that has no CLIP of its own.

    Args:
        preset: whose pictures are to be ranked.
        published: "MODEL/TAG" of a CLIP in open_clip's list, such as "ViT-B-32/openai". It is fetched from the hub
            once, compared with the hub's hash of it, and kept in the hub's cache; when it is there, nothing is
            contacted.

    Raises:
        PresetError: the preset's own CLIP cannot be read.
        DownloadError: there is no such published CLIP, or no connection to fetch it with.
        PublishedError: the published file is not what it should be.
    """
    if published is not None:
        from atelier.weights.published.openclip import load_published_clip  # nobody else needs what it imports

        return load_published_clip(published)
    if preset.clip is None:
        return None, None
    return preset.load_clip(), preset.load_clip_tokenizer()
