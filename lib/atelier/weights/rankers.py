"""The CLIP that ranks a preset's pictures: its own, or a published one."""

from __future__ import annotations

from atelier.blocks.clip import CLIP
from atelier.weights.preset import CLIP_FILE, Preset
from atelier.weights.tokenizer import TokenizerLike


def load_ranker(preset: Preset, published: str | None = None) -> tuple[CLIP | None, TokenizerLike | None]:
    """Load the CLIP that ranks a preset's pictures, and its tokenizer.

    Args:
        preset: the preset whose pictures are ranked.
        published: MODEL/TAG of a CLIP in open_clip's list, such as "ViT-B-32/openai"; None for the preset's own. It is
            downloaded from the hub, compared with the hub's hash of it, and kept in the hub's cache. If it is in the
            cache, no connection is needed.

    Returns:
        The CLIP and its tokenizer; None for both if the preset has no CLIP, or if its CLIP is not trained yet.

    Raises:
        PresetError: if the preset's own CLIP cannot be read.
        DownloadError: if there is no such published CLIP, or if it cannot be downloaded.
        PublishedError: if the published file is damaged or of another architecture.
    """
    if published is not None:
        from atelier.weights.published.openclip import (
            load_published_clip,  # imports libraries that only this branch needs
        )

        return load_published_clip(published)
    if preset.clip is None or CLIP_FILE not in preset.files:
        return None, None
    return preset.load_clip(), preset.load_clip_tokenizer()
