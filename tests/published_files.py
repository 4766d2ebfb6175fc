"""Small files in the published formats, with random weights, and a local server with the hub's interface."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
import numpy as np
import torch
from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from torch import Tensor, nn

FIXTURE = Path(__file__).parent / "parity" / "fixtures" / "dalle-mini-flax"

TINY_BART = BartConfig(
    text_vocabulary=1000,
    target_vocabulary=40,
    text_length=16,
    target_length=16,
    width=16,
    heads=2,
    inner_width=22,
    encoder_layers=2,
    decoder_layers=3,
)
TINY_VQGAN = VQGANConfig(
    resolution=32,
    channels=32,
    multipliers=(1, 1, 2, 2),
    residual_blocks=1,
    attention_resolutions=(4,),
    z_channels=12,
    codes=40,
    code_width=8,
    pixel_range="[0,1]",
    decay=None,
    restart_below=0.0,
)

# ---------------------------------------------------------------------------------------------- random blocks


def random_block(block: nn.Module, seed: int = 0) -> Any:
    """Fill a block with random weights such that each of them affects the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            centre = 1.0 if name.endswith("weight") and parameter.ndim == 1 else 0.0
            parameter.copy_(centre + 0.2 * torch.randn(parameter.shape, generator=generator))
    return block.eval()


def tiny_bart(config: BartConfig = TINY_BART) -> Bart:
    return random_block(Bart(config))


def tiny_vqgan(config: VQGANConfig = TINY_VQGAN) -> VQGAN:
    return random_block(VQGAN(config))


def stored(block: nn.Module) -> dict[str, Tensor]:
    """A block's weights without the moving averages of its codebook, which only training needs."""
    weights = {name: value.detach() for name, value in block.state_dict().items()}
    return {name: value for name, value in weights.items() if name not in ("quantize.counts", "quantize.sums")}


# ---------------------------------------------------------------------------------------------- Flax

FLAX_MODULES = {
    "text_embedding": "model/encoder/embed_tokens",
    "target_embedding": "model/decoder/embed_tokens",
    "lm_head": "lm_head",
}
FLAX_LAYER_MODULES = {
    "pre_self_attn_layer_norm": "LayerNorm_0",
    "self_attn_layer_norm": "LayerNorm_1",
    "pre_encoder_attn_layer_norm": "LayerNorm_2",
    "encoder_attn_layer_norm": "LayerNorm_3",
    "ffn.ln0": "GLU_0/LayerNorm_0",
    "ffn.ln1": "GLU_0/LayerNorm_1",
    "ffn.fc0": "GLU_0/Dense_0",
    "ffn.fc1": "GLU_0/Dense_1",
    "ffn.fc2": "GLU_0/Dense_2",
}


def flax_leaf(owner: str, leaf: str, value: Tensor) -> tuple[str, np.ndarray]:
    """Flax's name and layout of a parameter."""
    if leaf == "bias":
        return leaf, value.numpy()
    if value.ndim == 1:
        return "scale", value.numpy()
    if "embed" in owner:
        return "embedding", value.numpy()
    order = {2: (1, 0), 4: (2, 3, 1, 0)}[value.ndim]
    return "kernel", np.ascontiguousarray(value.permute(order).numpy())


def flax_bart(bart: Bart, scanned: bool = True) -> dict[str, Any]:
    """A translator's weights with the names and layout of Flax."""
    tree: dict[str, Any] = {}
    layers: dict[str, dict[int, np.ndarray]] = {}
    for name, value in stored(bart).items():
        owner, _, leaf = name.rpartition(".")
        leaf, array = flax_leaf(owner, leaf, value)
        stack, _, rest = owner.partition(".layers.")
        if not rest:
            tree[f"{FLAX_MODULES.get(owner, 'model/' + owner.replace('.', '/'))}/{leaf}"] = array
            continue
        number, _, inner = rest.partition(".")
        attention = inner.replace("self_attn.", "FlaxBartAttention_0/").replace("encoder_attn.", "FlaxBartAttention_1/")
        kind = f"model/{stack}/layers/FlaxBart{stack.capitalize()}Layer"
        inner = f"{FLAX_LAYER_MODULES.get(inner, attention)}/{leaf}"
        if scanned:
            layers.setdefault(f"{kind}s/{inner}", {})[int(number)] = array
        else:
            tree[f"{kind}_{number}/{inner}"] = array
    for name, arrays in layers.items():
        tree[name] = np.stack([arrays[number] for number in sorted(arrays)])
    return tree


def flax_vqgan(vqgan: VQGAN) -> dict[str, Any]:
    """A VQ-GAN's weights with the names and layout of Flax."""
    tree = {}
    for name, value in stored(vqgan).items():
        owner, _, leaf = name.rpartition(".")
        leaf, array = flax_leaf(owner, leaf, value)
        for kind in ("up", "down", "block", "attn"):
            owner = owner.replace(f".{kind}.", f".{kind}_")
        tree[f"{owner.replace('.', '/')}/{leaf}"] = array
    return tree


def unscanned(content: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A translator whose layers are stacked on the first axis, as a tree with an entry for each layer."""
    tree = {}
    for name, array in content.items():
        if "Layers/" in name:
            tree |= {name.replace("Layers/", f"Layer_{number}/"): layer for number, layer in enumerate(array)}
        else:
            tree[name] = array
    return tree


def write_msgpack(path: Path, tree: dict[str, Any], chunk: int | None = None) -> None:
    """Write arrays as Flax does; arrays of more than `chunk` elements are cut into chunks."""
    nested: dict[str, Any] = {}
    for name, array in tree.items():
        *owners, leaf = name.split("/")
        branch = nested
        for owner in owners:
            branch = branch.setdefault(owner, {})
        branch[leaf] = array
    with path.open("wb") as file:
        _write_tree(file, nested, chunk)


def _write_tree(file: BinaryIO, tree: Any, chunk: int | None) -> None:
    if isinstance(tree, np.ndarray) and chunk is not None and tree.size > chunk:
        flat = tree.reshape(-1)
        pieces = [flat[start : start + chunk] for start in range(0, flat.size, chunk)]
        numbered = ({str(i): x for i, x in enumerate(values)} for values in (tree.shape, pieces))
        shape, chunks = numbered
        file.write(msgpack.Packer().pack_map_header(3))
        for key, value in (("__msgpack_chunked_array__", True), ("shape", shape)):
            file.write(msgpack.packb(key) + msgpack.packb(value))
        file.write(msgpack.packb("chunks"))
        _write_tree(file, chunks, None)
    elif isinstance(tree, np.ndarray):
        content = msgpack.packb((tree.shape, tree.dtype.name, tree.tobytes()), use_bin_type=True)
        file.write(msgpack.packb(msgpack.ExtType(1, content)))
    else:
        file.write(msgpack.Packer().pack_map_header(len(tree)))
        for key, value in tree.items():
            file.write(msgpack.packb(key))
            _write_tree(file, value, chunk)


def flax_bart_config(config: BartConfig) -> dict[str, Any]:
    values = json.loads((FIXTURE / "scanned" / "config.json").read_text())
    return values | {
        "encoder_vocab_size": config.text_vocabulary,
        "image_vocab_size": config.target_vocabulary,
        "max_text_length": config.text_length,
        "image_length": config.target_length,
        "d_model": config.width,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.inner_width,
        "decoder_ffn_dim": config.inner_width,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "decoder_start_token_id": config.decoder_start,
    }


def flax_vqgan_config(config: VQGANConfig) -> dict[str, Any]:
    return {
        "resolution": config.resolution,
        "ch": config.channels,
        "ch_mult": list(config.multipliers),
        "num_res_blocks": config.residual_blocks,
        "attn_resolutions": list(config.attention_resolutions),
        "z_channels": config.z_channels,
        "n_embed": config.codes,
        "embed_dim": config.code_width,
        "double_z": False,
        "in_channels": 3,
        "out_ch": 3,
        "resamp_with_conv": True,
        "give_pre_end": False,
        "dropout": 0.0,
    }


def write_flax_bart(folder: Path, bart: Bart, scanned: bool = True, tokenizer: bool = True) -> Path:
    """Write a folder such as dalle-mini/dalle-mini's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(flax_bart_config(bart.config)))
    write_msgpack(folder / "flax_model.msgpack", flax_bart(bart, scanned))
    for name in ("vocab.json", "merges.txt") if tokenizer else ():
        (folder / name).write_bytes((FIXTURE / "scanned" / name).read_bytes())
    return folder


def write_flax_vqgan(folder: Path, vqgan: VQGAN) -> Path:
    """Write a folder such as dalle-mini/vqgan_imagenet_f16_16384's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(flax_vqgan_config(vqgan.config)))
    write_msgpack(folder / "flax_model.msgpack", flax_vqgan(vqgan))
    return folder


# ---------------------------------------------------------------------------------------------- PyTorch


def min_dalle_bart(bart: Bart, stack: str) -> dict[str, Tensor]:
    """The content of an encoder.pt or a decoder.pt, in float16."""
    theirs = {"text_embedding": "encoder.embed_tokens", "target_embedding": "decoder.embed_tokens"}
    found = {}
    for name, value in stored(bart).items():
        for ours, their in {**theirs, "lm_head": "decoder.lm_head"}.items():
            name = name.replace(f"{ours}.", f"{their}.") if name.startswith(ours) else name
        if name.startswith(f"{stack}."):
            found[name.removeprefix(f"{stack}.").replace(".ffn.", ".glu.")] = value.half()
    return found


def min_dalle_vqgan(vqgan: VQGAN) -> dict[str, Tensor]:
    """The content of a detoker.pt."""
    kept = {name: value for name, value in stored(vqgan).items() if not name.startswith(("encoder.", "quant_conv."))}
    return {name.removeprefix("quantize."): value for name, value in kept.items()}


def write_min_dalle(folder: Path, bart: Bart, vqgan: VQGAN, suffix: str = "") -> Path:
    """Write a folder such as kuprel/min-dalle's."""
    folder.mkdir(parents=True, exist_ok=True)
    for stack in ("encoder", "decoder"):
        torch.save(min_dalle_bart(bart, stack), folder / f"{stack}{suffix}.pt")
    torch.save(min_dalle_vqgan(vqgan), folder / "detoker.pt")
    for name, ending in (("vocab", "json"), ("merges", "txt")):
        content = (FIXTURE / "scanned" / f"{name}.{ending}").read_bytes()
        (folder / f"{name}{suffix}.{ending}").write_bytes(content)
    return folder


# ---------------------------------------------------------------------------------------------- the hub


@dataclass
class Hub:
    """A local server with the parts of the hub's interface that downloads and uploads use.

    Attributes:
        root: the folder of the repositories OWNER/NAME.
        url: of the server.
        requests: all requests so far, as "METHOD path range".
        cuts: by file, the number of following responses that end in the middle.
        changes: by file, a function that alters its content on the way.
        etags: by file, another ETag than its hash.
        commit_sent: another commit than the right one.
        dripping: files whose bodies come a byte at a time.
        broken: whether every request is answered with status 500.
        token: the token with which files may be uploaded.
    """

    root: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)
    cuts: dict[str, int] = field(default_factory=dict)
    changes: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    commit_sent: str | None = None
    dripping: set[str] = field(default_factory=set)
    broken: bool = False
    token: str = "hf_test"

    @property
    def commit(self) -> str:
        """The commit of all repositories; it changes whenever a file changes."""
        digest = hashlib.sha1()
        for path in sorted(self.root.rglob("*")):
            if path.is_file():
                digest.update(str(path.relative_to(self.root)).encode() + path.read_bytes())
        return digest.hexdigest()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", hub.commit)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self) -> None:
            hub.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
            owner, name, resolve, revision, *parts = self.path.strip("/").split("/")
            path = hub.root / owner / name / "/".join(parts)
            if hub.broken or resolve != "resolve":
                return self.refuse(500, "")
            if not (hub.root / owner / name).is_dir():
                return self.refuse(404, "RepoNotFound")
            if revision == "0" * 40:  # stands for every commit that does not exist
                return self.refuse(404, "RevisionNotFound")
            if not path.is_file():
                return self.refuse(404, "EntryNotFound")
            return self.send(path)

        def upload(self) -> None:
            """Create a repository, say that all files come with the commit, and store the files of a commit."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hub.requests.append(f"{self.command} {self.path}")
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.refuse(401, "")
            if self.path == "/api/repos/create":
                repository = json.loads(body)
                name = f"{repository['organization']}/{repository['name']}"
                (hub.root / name).mkdir(parents=True, exist_ok=True)
                return self.reply({"url": f"{hub.url}/{name}"})
            if self.path == "/api/validate-yaml":
                return self.reply({"errors": [], "warnings": []})
            _, _, owner, name, action, _ = self.path.strip("/").split("/")
            if action == "preupload":
                files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
                return self.reply({"files": [{**file, "shouldIgnore": False} for file in files]})
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    path = hub.root / owner / name / line["value"]["path"]
                    path.write_bytes(base64.b64decode(line["value"]["content"]))
            commit = {"commitUrl": f"{hub.url}/{owner}/{name}/commit/{hub.commit}", "commitOid": hub.commit}
            return self.reply({**commit, "success": True})

        def reply(self, values: dict[str, Any]) -> None:
            content = json.dumps(values).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def send(self, path: Path) -> None:
            content = path.read_bytes()
            large = len(content) > 20_000 or path.suffix in (".msgpack", ".pt")
            etag = hashlib.sha256(content) if large else hashlib.sha1(b"blob %d\0" % len(content) + content)
            body = hub.changes.get(path.name, lambda same: same)(content)
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            if start and start >= len(body):
                self.refuse(416, "")
                return
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", hub.commit_sent or hub.commit)
            sent = hub.etags.get(path.name, etag.hexdigest())
            self.send_header("ETag", f'"{sent}"')
            if large:
                self.send_header("X-Linked-Etag", f'"{sent}"')
                self.send_header("X-Linked-Size", str(len(content)))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.cuts.get(path.name, 0) > 0:
                hub.cuts[path.name] -= 1
                body = body[: start + (len(body) - start) // 2]
                self.close_connection = True
            for place in range(start, len(body)) if path.name in hub.dripping else ():
                if path.name not in hub.dripping:  # the test has ended
                    return
                self.wfile.write(body[place : place + 1])
                threading.Event().wait(0.1)
            self.wfile.write(body[start:])

        do_GET = do_HEAD = answer  # noqa: N815
        do_POST = upload  # noqa: N815

    return Handler


@contextmanager
def serve(root: Path) -> Generator[Hub]:
    """Serve the repositories in a folder while the context is active."""
    hub = Hub(root)
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub)) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
