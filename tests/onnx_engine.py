"""Drawing with an export in NumPy and onnxruntime, without PyTorch: how a program in another language would do it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tokenizers
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

COLDEST = 1e-6  # below this temperature the likeliest code is taken


@dataclass(frozen=True)
class Drawn:
    """Pictures of one prompt, not sorted."""

    codes: Codes  # (n, grid, grid)
    pictures: Floats  # (n, 3, size, size), from 0 to 1
    scores: Floats | None  # (n,), 100 · cosine; None if the preset has no CLIP


class OnnxEngine:
    """Draws with the files of one folder."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.manifest = json.loads((folder / "drawing.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.sessions = {
            name: onnxruntime.InferenceSession(folder / graph["file"], options, providers=["CPUExecutionProvider"])
            for name, graph in self.manifest["graphs"].items()
        }
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True

    def run(self, graph: str, **inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs of a graph, in the manifest's order."""
        outputs = self.sessions[graph].run(list(self.manifest["graphs"][graph]["outputs"]), inputs)
        return [np.asarray(output) for output in outputs]

    def ids(self, text: str, length: int) -> Codes:
        """The ids (1, length) of a text: start, pieces, end, padding."""
        tokens = self.manifest["tokens"]
        pieces = self.tokenizer.encode(text, add_special_tokens=False).ids[: length - 2]
        row = [tokens["start"], *pieces, tokens["end"]]
        return np.array([row + [tokens["pad"]] * (length - len(row))])

    def read(self, prompt: str, guided: bool) -> list[NDArray[Any]]:
        """The translator's memory and mask of a prompt and, if guided, of an empty caption."""
        tokens, length = self.manifest["tokens"], self.manifest["sizes"]["text_length"]
        rows = self.ids(prompt, length)
        if guided:
            empty = [tokens["start"], tokens["end"]] + [tokens["pad"]] * (length - 2)
            rows = np.concatenate([rows, [empty]])
        longest = (rows != tokens["pad"]).sum(axis=1).max()
        return self.run("caption_reader", ids=rows[:, :longest])

    def write(self, prompt: str, uniforms: Floats, sampling: dict[str, Any]) -> Codes:
        """Write the codes (n, length) of n pictures, whose random numbers are uniforms (n, length)."""
        guidance = sampling["guidance"]
        memory, mask = self.read(prompt, guided=guidance != 1)
        prompts, (n, length) = len(mask), uniforms.shape
        cache = np.empty((length, *memory.shape[:2], prompts, n, memory.shape[3], memory.shape[5]), np.float32)
        codes = np.full((n, length + 1), self.manifest["tokens"]["first_code"])
        for step in range(length):
            newest = np.broadcast_to(codes[:, step], (prompts, n))
            position = np.array([step])
            logits, added = self.run(
                "code_writer", newest=newest, position=position, memory=memory, mask=mask, cache=cache[:step]
            )
            cache[step] = added[0]
            guided = logits[-1] + guidance * (logits[0] - logits[-1]) if prompts == 2 else logits[0]  # (n, codes)
            codes[:, step + 1] = sample_codes(probabilities(guided, sampling), uniforms[:, step])
        return codes[:, 1:]

    def draw(self, prompt: str, uniforms: Floats, **how: Any) -> Drawn:
        """Draw one picture for each row of uniforms (n, length); `how` replaces settings of the manifest."""
        sizes = self.manifest["sizes"]
        codes = self.write(prompt, uniforms, {**self.manifest["sampling"], **how})
        codes = codes.reshape(-1, sizes["grid"], sizes["grid"])
        (pictures,) = self.run("picture_decoder", codes=codes)
        scores = self.score(prompt, pictures) if "text_tower" in self.sessions else None
        return Drawn(codes, pictures, scores)

    def score(self, prompt: str, pictures: Floats) -> Floats:
        """100 · cosine of a prompt and pictures (n, 3, size, size)."""
        (text,) = self.run("text_tower", ids=self.ids(prompt, self.manifest["sizes"]["clip_text_length"]))
        (seen,) = self.run("picture_tower", pictures=pictures)
        return 100 * seen @ text[0]


def probabilities(logits: Floats, sampling: dict[str, Any]) -> NDArray[Any]:
    """The distribution (n, codes) from which the next code is drawn, from logits (n, codes)."""
    if sampling["temperature"] < COLDEST:
        return np.eye(logits.shape[1])[logits.argmax(axis=1)]
    if sampling["top_k"] is not None and sampling["top_k"] < logits.shape[1]:
        ranks = np.argsort(np.argsort(-logits, axis=1, kind="stable"), axis=1)
        logits = np.where(ranks < sampling["top_k"], logits, -np.inf)
    shares = softmax(logits / sampling["temperature"])
    if sampling["top_p"] is not None and sampling["top_p"] < 1:
        order = np.argsort(-shares, axis=1, kind="stable")
        ranked = np.take_along_axis(shares, order, axis=1)
        ranked[ranked.cumsum(axis=1) - ranked >= sampling["top_p"]] = 0
        shares = np.zeros_like(shares)
        np.put_along_axis(shares, order, ranked, axis=1)
    return shares


def softmax(logits: Floats) -> Floats:
    """Softmax of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sample_codes(shares: NDArray[Any], uniforms: Floats) -> Codes:
    """Draw one code (n,) from each row of shares (n, codes), at uniforms (n,) of the way through their sum."""
    wheel = shares.astype(np.float64).cumsum(axis=1)
    stops = uniforms * wheel[:, -1]
    return np.array([np.searchsorted(row, stop, side="right") for row, stop in zip(wheel, stops, strict=True)])
