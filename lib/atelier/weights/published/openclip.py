"""CLIPs in open_clip's form, both ways: its published ones rank our pictures, and it loads ours.

open_clip's own tables say where a CLIP is published, how it is built and which activation it was trained with. Its
files come through the hub's cache, which open_clip fills and reads as well, so whoever has used one there has it here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from atelier.blocks.clip import CLIP, CLIPConfig
from atelier.errors import AtelierError
from atelier.weights.published.hub import AbsentError, DownloadError, Fetched, fetch
from atelier.weights.published.pickled import PickledFile
from atelier.weights.published.pieces import Piece, PublishedError, fill
from atelier.weights.sizes import check_sizes
from atelier.weights.storage import replace_file
from atelier.weights.tokenizer import END, PAD, SPECIAL_TOKENS, START, UNKNOWN, Tokenizer, cleaned

CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
PICKLED_FILE = "open_clip_pytorch_model.bin"  # what older publications have in place of WEIGHTS_FILE

# What a part of open_clip's description may say. Whatever else stands in one changes the network.
PLAIN: dict[str, set[str]] = {
    "model": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"},
    "vision_cfg": {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"},
    "text_cfg": {
        *("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pool_type", "eos_id", "pad_id"),
        *("hf_tokenizer_name",),
    },
}


class OpenClipTokenizer:
    """open_clip's tokenizer of a published CLIP, in the form of ours. cut: gives ids (n, length), padded with 0."""

    def __init__(self, cut: Callable[..., Tensor]) -> None:
        self._cut = cut

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """Texts as ids, (n, t), t as many as the longest needs, `length` at most; the end of a text always stays.

        open_clip fills each row up to `length`. What follows the end has no influence in a causal tower, so it is left
        out: a prompt of ten words then takes a fifth of the time.
        """
        ids = self._cut(cleaned(texts), context_length=length)  # (n, length)
        return ids[:, : int((ids != 0).sum(1).max())]


def load_published_clip(name: str) -> tuple[CLIP, OpenClipTokenizer]:
    """A published CLIP with its tokenizer, fetched where it is not in the cache yet.

    Args:
        name: "MODEL/TAG", a model of open_clip's and a tag of its weights, such as "ViT-B-32/openai".

    Raises:
        DownloadError: there is no such CLIP, or its file cannot be had.
        PublishedError: it is built in another way than ours, or its file is not what it should be.
    """
    import open_clip  # takes seconds, and who never ranks with a published CLIP need not wait for them

    model, _, tag = name.partition("/")
    description, source = open_clip.get_model_config(model), open_clip.get_pretrained_cfg(model, tag)
    if not description or not source or not source.get("hf_hub"):
        known = [f"{a}/{b}" for a, b in open_clip.list_pretrained() if a == model] or ["ViT-B-32/openai"]
        raise DownloadError(f"open_clip publishes no CLIP {name!r}; give MODEL/TAG, such as {', '.join(known[:4])}.")
    config = published_config(name, description, source)
    return read_clip(_fetched(source["hf_hub"]).path, config), OpenClipTokenizer(open_clip.get_tokenizer(model))


def published_config(name: str, description: dict[str, Any], source: dict[str, Any]) -> CLIPConfig:
    """The sizes of a published CLIP, and what its weights were trained with.

    Args:
        name: for errors.
        description: of the model, open_clip's.
        source: of the weights. The activation is theirs: OpenAI's need QuickGELU whatever the model's name says.

    Raises PublishedError where it is built in another way than ours, or sees pictures resized in another way.
    """
    if "hf_tokenizer_name" in description.get("text_cfg", {}) or source.get("interpolation") != "bicubic":
        raise PublishedError(f"{name} has a tokenizer or a view of pictures of its own; choose a CLIP like OpenAI's.")
    config = config_from_open_clip(name, description)
    return replace(
        config,
        quick_gelu=bool(source.get("quick_gelu", False)),
        pixel_mean=tuple(source["mean"]),
        pixel_std=tuple(source["std"]),
    )


def config_from_open_clip(name: str, description: dict[str, Any]) -> CLIPConfig:
    """A CLIP's sizes from open_clip's description of a model. Raises PublishedError for another kind of model."""
    parts = {"model": description, **{part: description.get(part, {}) for part in ("vision_cfg", "text_cfg")}}
    strange = [f"{part}.{key}" for part, values in parts.items() for key in values if key not in PLAIN[part]]
    vision, text = parts["vision_cfg"], parts["text_cfg"]
    ratios = {values.get("mlp_ratio", 4.0) for values in (vision, text)}
    if strange or len(ratios) > 1 or not isinstance(vision.get("layers"), int):
        what = f": {', '.join(strange)}" if strange else ""
        raise PublishedError(f"{name} is not built like OpenAI's vision transformers{what}; choose another CLIP.")
    by_id = text.get("pool_type", "argmax") == "eos"
    config = CLIPConfig(
        embed_dim=description["embed_dim"],
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        vision_width=vision["width"],
        vision_layers=vision["layers"],
        vision_heads=vision["width"] // vision.get("head_width", 64),
        vocabulary=text["vocab_size"],
        context_length=text["context_length"],
        text_width=text["width"],
        text_layers=text["layers"],
        text_heads=text["heads"],
        mlp_ratio=ratios.pop(),
        quick_gelu=description.get("quick_gelu", False),
        end_token=text.get("eos_id", 2) if by_id else None,
    )
    check_sizes(config)
    return config


def read_clip(path: Path, config: CLIPConfig) -> CLIP:
    """A CLIP with the numbers of a file of open_clip's, .safetensors or pickled, in float32.

    Raises PublishedError where the file is damaged or belongs to a CLIP of other sizes.
    """
    return fill(lambda: CLIP(config), _pieces(path), path)


def _pieces(path: Path) -> Iterator[Piece]:
    """The file's tensors; their names are our places."""
    if path.suffix == ".safetensors":
        try:
            file = safe_open(path, framework="pt")
        except SafetensorError as fault:
            raise PublishedError(f"{path} is not a safetensors file: {fault}; fetch it again.") from fault
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        readers = {name: (shape, partial(file.get_tensor, name)) for name, shape in shapes.items()}
    else:
        pickled = PickledFile(path)
        readers = {name: (shape, partial(pickled.read, name)) for name, shape in pickled.shapes.items()}
    for name, (shape, read) in readers.items():
        yield Piece(name, name, shape, read)


def _fetched(place: str) -> Fetched:
    """The weights: place is "OWNER/NAME/" or "OWNER/NAME/FILE". A file in the cache is taken before all others."""
    owner, name, *file = place.split("/")
    repository, files = f"{owner}/{name}", [*filter(None, file)] or [WEIGHTS_FILE, PICKLED_FILE]
    cached = [file for file in files if isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str)]
    for file in cached[:1] or files[:-1]:
        try:
            return fetch(repository, [file])[file]
        except AbsentError:
            continue
    return fetch(repository, files[-1:])[files[-1]]


# ---------------------------------------------------------------------------------------------- the way back


def export_clip(clip: CLIP, tokenizer: Tokenizer, folder: Path) -> Path:
    """Write a CLIP of ours so that open_clip loads it: `open_clip.create_model_and_transforms("local-dir:FOLDER")`.

    `open_clip.get_tokenizer` takes the same name and gives our ids. It mends texts before: HTML's entities and
    typographic quotes become plain characters.

    Args:
        clip: any of ours.
        tokenizer: that it was trained with.
        folder: where the files go; it is made if need be.

    Returns:
        The folder.

    Raises:
        AtelierError: the tokenizer has more ids than the CLIP has places for.
    """
    if len(tokenizer) > clip.config.vocabulary:
        raise AtelierError(
            f"The tokenizer has {len(tokenizer)} ids, but the CLIP's vocabulary is {clip.config.vocabulary}; they do "
            "not belong together."
        )
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in clip.state_dict().items()}
    for file, values in {CONFIG_FILE: open_clip_config(clip.config), **tokenizer_config(clip.config)}.items():
        replace_file(folder / file, (json.dumps(values, indent=2) + "\n").encode())
    replace_file(folder / "tokenizer.json", tokenizer.content())
    replace_file(folder / WEIGHTS_FILE, safetensors.torch.save(tensors))
    return folder


def open_clip_config(config: CLIPConfig) -> dict[str, Any]:
    """A CLIP's sizes as an open_clip_config.json holds them."""
    pooling = {"pool_type": "argmax"} if config.end_token is None else {"pool_type": "eos", "eos_id": config.end_token}
    return {
        "model_cfg": {
            "embed_dim": config.embed_dim,
            "quick_gelu": config.quick_gelu,
            "vision_cfg": {
                "image_size": config.image_size,
                "layers": config.vision_layers,
                "width": config.vision_width,
                "head_width": config.vision_width // config.vision_heads,
                "mlp_ratio": config.mlp_ratio,
                "patch_size": config.patch_size,
            },
            "text_cfg": {
                "context_length": config.context_length,
                "vocab_size": config.vocabulary,
                "width": config.text_width,
                "heads": config.text_heads,
                "layers": config.text_layers,
                "mlp_ratio": config.mlp_ratio,
                "pad_id": PAD,
                **pooling,
                "hf_tokenizer_name": "local",  # that there is one; for a folder, open_clip looks into the folder
            },
        },
        "preprocess_cfg": {
            "mean": list(config.pixel_mean),
            "std": list(config.pixel_std),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def tokenizer_config(config: CLIPConfig) -> dict[str, dict[str, Any]]:
    """What transformers, which open_clip reads tokenizers with, wants to know beside the tokenizer.json."""
    roles = {"bos_token": START, "eos_token": END, "pad_token": PAD, "unk_token": UNKNOWN}
    named = {role: SPECIAL_TOKENS[i] for role, i in roles.items()}
    return {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.context_length,
            "split_special_tokens": True,  # a prompt that contains "</s>" means these four characters
            "clean_up_tokenization_spaces": False,
            **named,
        },
    }
