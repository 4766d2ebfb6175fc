"""CLIPs in open_clip's format: published ones are loaded to rank our pictures, and ours are exported.

open_clip's tables say where a CLIP is published, which architecture it has and which activation it was trained with.
open_clip uses the hub's cache as well, so a CLIP that it has downloaded is not downloaded again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from atelier.blocks.clip import CLIP, CLIPConfig
from atelier.errors import AtelierError
from atelier.weights.published.hub import DownloadError, HubFile, MissingFileError, fetch, file_size, find_in_cache
from atelier.weights.published.pickled import PickledFile
from atelier.weights.published.tensors import PublishedError, PublishedTensor, load_tensors
from atelier.weights.sizes import check_sizes
from atelier.weights.storage import replace_file
from atelier.weights.tokenizer import END, PAD, SPECIAL_TOKENS, START, UNKNOWN, Tokenizer, clean_texts

CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
PICKLED_FILE = "open_clip_pytorch_model.bin"  # older publications have it instead of WEIGHTS_FILE

# The keys that a part of open_clip's description may have. Any other key changes the architecture.
SUPPORTED_KEYS: dict[str, set[str]] = {
    "model": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"},
    "vision_cfg": {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"},
    "text_cfg": {
        *("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pool_type", "eos_id", "pad_id"),
        *("hf_tokenizer_name",),
    },
}


class OpenClipTokenizer:
    """open_clip's tokenizer of a published CLIP, with the interface of ours.

    Args:
        tokenize: open_clip's tokenizer: returns ids (n, length), padded with 0.
    """

    def __init__(self, tokenize: Callable[..., Tensor]) -> None:
        self._tokenize = tokenize

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """Encode texts as ids.

        open_clip pads each row to `length`. In a causal text tower the padding after the end token has no influence,
        so it is left out: a prompt of ten words then takes a fifth of the time.

        Args:
            texts: captions or prompts.
            length: the maximum number of tokens. Longer texts are truncated; the end token is always kept.

        Returns:
            (n, t) int64, where t is the number of tokens of the longest text.
        """
        ids = self._tokenize(clean_texts(texts), context_length=length)  # (n, length)
        return ids[:, : int((ids != 0).sum(1).max())]


def load_published_clip(name: str) -> tuple[CLIP, OpenClipTokenizer]:
    """Load a published CLIP and its tokenizer; it is downloaded if it is not in the cache.

    Args:
        name: MODEL/TAG, a model of open_clip and a tag of its weights, such as "ViT-B-32/openai".

    Returns:
        The model in evaluation mode, and its tokenizer.

    Raises:
        DownloadError: if there is no such CLIP, or if its file cannot be downloaded.
        PublishedError: if our `CLIP` does not support its architecture, or if its file is damaged.
    """
    import open_clip  # takes seconds, and only ranking with a published CLIP needs it

    description, source = _described(name)
    config = published_config(name, description, source)
    tokenizer = OpenClipTokenizer(open_clip.get_tokenizer(name.partition("/")[0]))
    return read_clip(_fetch_weights(source["hf_hub"]).path, config), tokenizer


def is_downloaded(name: str) -> bool:
    """Whether a published CLIP is in the cache, so that loading it needs no connection.

    Args:
        name: as for `load_published_clip`.

    Raises:
        DownloadError: if there is no such CLIP.
    """
    repository, files = _weights_files(_described(name)[1]["hf_hub"])
    return any(find_in_cache(repository, file) for file in files)


def published_clip_size(name: str) -> int:
    """Find how many bytes `load_published_clip` would download: 0 if the CLIP is in the cache.

    Args:
        name: as for `load_published_clip`.

    Raises:
        DownloadError: if there is no such CLIP, or if the hub does not answer.
    """
    if is_downloaded(name):
        return 0
    repository, files = _weights_files(_described(name)[1]["hf_hub"])
    for file in files[:-1]:
        try:
            return file_size(repository, file)[0]
        except MissingFileError:
            continue
    return file_size(repository, files[-1])[0]


def _described(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """open_clip's description of a model and of its published weights.

    Raises:
        DownloadError: if open_clip publishes no such CLIP.
    """
    import open_clip

    model, _, tag = name.partition("/")
    description, source = open_clip.get_model_config(model), open_clip.get_pretrained_cfg(model, tag)
    if not description or not source or not source.get("hf_hub"):
        known = [f"{a}/{b}" for a, b in open_clip.list_pretrained() if a == model] or ["ViT-B-32/openai"]
        raise DownloadError(f"open_clip publishes no CLIP {name!r}; give MODEL/TAG, such as {', '.join(known[:4])}.")
    return description, source


def published_config(name: str, description: dict[str, Any], source: dict[str, Any]) -> CLIPConfig:
    """Translate open_clip's description of a model and of its published weights.

    Args:
        name: the name of the CLIP, for error messages.
        description: open_clip's config of the model.
        source: open_clip's config of the weights. It gives the activation: OpenAI's weights need QuickGELU even if the
            model's name does not contain it.

    Returns:
        The config.

    Raises:
        PublishedError: if our `CLIP` does not support the architecture, the tokenizer or the way images are resized.
    """
    if "hf_tokenizer_name" in description.get("text_cfg", {}) or source.get("interpolation") != "bicubic":
        raise PublishedError(
            f"{name} has another tokenizer or another preprocessing than OpenAI's CLIP; choose a CLIP like OpenAI's."
        )
    config = config_from_open_clip(name, description)
    return replace(
        config,
        quick_gelu=bool(source.get("quick_gelu", False)),
        pixel_mean=tuple(source["mean"]),
        pixel_std=tuple(source["std"]),
    )


def config_from_open_clip(name: str, description: dict[str, Any]) -> CLIPConfig:
    """Translate open_clip's description of a model.

    Args:
        name: the name of the CLIP, for error messages.
        description: open_clip's config of the model.

    Returns:
        The config.

    Raises:
        PublishedError: if our `CLIP` does not support the architecture.
    """
    parts = {"model": description, **{part: description.get(part, {}) for part in ("vision_cfg", "text_cfg")}}
    unsupported = [
        f"{part}.{key}" for part, values in parts.items() for key in values if key not in SUPPORTED_KEYS[part]
    ]
    vision, text = parts["vision_cfg"], parts["text_cfg"]
    ratios = {values.get("mlp_ratio", 4.0) for values in (vision, text)}
    if unsupported or len(ratios) > 1 or not isinstance(vision.get("layers"), int):
        what = f": {', '.join(unsupported)}" if unsupported else ""
        raise PublishedError(f"{name} is not built like OpenAI's vision transformers{what}; choose another CLIP.")
    has_end_token = text.get("pool_type", "argmax") == "eos"
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
        end_token=text.get("eos_id", 2) if has_end_token else None,
    )
    check_sizes(config)
    return config


def read_clip(path: Path, config: CLIPConfig) -> CLIP:
    """Load a CLIP from a file of open_clip, in float32.

    Args:
        path: the path of the .safetensors file or the pickled file.
        config: the sizes.

    Returns:
        The model in evaluation mode.

    Raises:
        PublishedError: if the file is damaged, or of other sizes.
    """
    return load_tensors(lambda: CLIP(config), _tensors(path), path)


def _tensors(path: Path) -> Iterator[PublishedTensor]:
    """List the tensors of a file; their names are those of our block."""
    if path.suffix != ".safetensors":
        yield from PickledFile(path).tensors()
        return
    try:
        file = safe_open(path, framework="pt")
    except SafetensorError as fault:
        raise PublishedError(f"{path} is not a safetensors file: {fault}; download it again.") from fault
    for name in file.keys():  # noqa: SIM118
        shape = tuple(file.get_slice(name).get_shape())
        yield PublishedTensor(name, name, shape, partial(file.get_tensor, name))


def _weights_files(source: str) -> tuple[str, list[str]]:
    """The repository of a source such as "OWNER/NAME/" or "OWNER/NAME/FILE", and its possible files of weights."""
    owner, name, *file = source.split("/")
    return f"{owner}/{name}", [*filter(None, file)] or [WEIGHTS_FILE, PICKLED_FILE]


def _fetch_weights(source: str) -> HubFile:
    """Get the weights from the cache, or else from the hub.

    Args:
        source: "OWNER/NAME/" or "OWNER/NAME/FILE". Without a file name, a file in the cache is preferred, then the
            .safetensors file.
    """
    repository, files = _weights_files(source)
    cached = [file for file in files if find_in_cache(repository, file)]
    for file in cached[:1] or files[:-1]:
        try:
            return fetch(repository, [file])[file]
        except MissingFileError:
            continue
    return fetch(repository, files[-1:])[files[-1]]


# ---------------------------------------------------------------------------------------------- export


def export_clip(clip: CLIP, tokenizer: Tokenizer, folder: Path) -> Path:
    """Write one of our CLIPs in open_clip's format.

    `open_clip.create_model_and_transforms("local-dir:FOLDER")` loads it. `open_clip.get_tokenizer` takes the same name
    and gives the same ids as our tokenizer, except that it first replaces HTML entities and typographic quotes with
    plain characters.

    Args:
        clip: the model.
        tokenizer: that it was trained with.
        folder: to write to; it is created if necessary.

    Returns:
        The folder.

    Raises:
        AtelierError: if the tokenizer has more ids than the vocabulary of the CLIP.
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
    """Translate a config into the content of an open_clip_config.json."""
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
                "hf_tokenizer_name": "local",  # any name makes open_clip read the tokenizer in the same folder
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
    """Make the files beside tokenizer.json that transformers needs, with which open_clip reads tokenizers."""
    roles = {"bos_token": START, "eos_token": END, "pad_token": PAD, "unk_token": UNKNOWN}
    named = {role: SPECIAL_TOKENS[i] for role, i in roles.items()}
    return {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.context_length,
            "split_special_tokens": True,  # "</s>" in a prompt is text, not the end token
            "clean_up_tokenization_spaces": False,
            **named,
        },
    }
