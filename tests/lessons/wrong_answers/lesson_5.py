"""Wrong answers to the exercises of lesson 5, each of which must be told what is wrong in it."""

import csv
from pathlib import Path

import torch
from torch import Tensor

SEEN = [
    "a cartoon of a red cat in the city",
    "a photo of a purple car on the moon",
    "a watercolour of a white house by a lake in the mountains",
    "a stained glass window of a red sailing boat on the beach",
    "a photo of an orange strawberry in the snow",
]


def guided_by(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    return unconditional + guidance * (conditional - unconditional)


def top(logits: Tensor, k: int | None) -> Tensor:
    return logits if k is None else logits.masked_fill(logits < logits.topk(k).values[-1], -torch.inf)


def without_guidance(conditional: Tensor, unconditional: Tensor, g: float, t: float, k: int | None) -> Tensor:
    return (top(conditional, k) / t).softmax(0)


def exchanged(conditional: Tensor, unconditional: Tensor, g: float, t: float, k: int | None) -> Tensor:
    return (top(guided_by(unconditional, conditional, g), k) / t).softmax(0)


def multiplied(conditional: Tensor, unconditional: Tensor, g: float, t: float, k: int | None) -> Tensor:
    return (top(guided_by(conditional, unconditional, g), k) * t).softmax(0)


def logits_only(conditional: Tensor, unconditional: Tensor, g: float, t: float, k: int | None) -> Tensor:
    return top(guided_by(conditional, unconditional, g), k) / t


def without_top_k(conditional: Tensor, unconditional: Tensor, g: float, t: float, k: int | None) -> Tensor:
    return (guided_by(conditional, unconditional, g) / t).softmax(0)


def zeros_for_the_rest(conditional: Tensor, unconditional: Tensor, g: float, t: float, k: int | None) -> Tensor:
    logits = guided_by(conditional, unconditional, g)
    return (torch.where(torch.isinf(top(logits, k)), 0.0, logits) / t).softmax(0)


def cut_after_softmax(conditional: Tensor, unconditional: Tensor, g: float, t: float, k: int | None) -> Tensor:
    share = (guided_by(conditional, unconditional, g) / t).softmax(0)
    return share if k is None else share.masked_fill(share < share.topk(k).values[-1], 0.0)


def top_k_first(conditional: Tensor, unconditional: Tensor, g: float, t: float, k: int | None) -> Tensor:
    guided = guided_by(conditional, unconditional, g)
    return (guided.masked_fill(torch.isinf(top(conditional, k)), -torch.inf) / t).softmax(0)


def with_itself(codes: Tensor) -> float:
    cells = codes.flatten(1)
    return (cells[:, None] != cells[None]).float().mean().item()


def equal_cells(codes: Tensor) -> float:
    cells, n = codes.flatten(1), len(codes)
    return 1 - ((cells[:, None] != cells[None]).float().mean(2).sum() / (n * (n - 1))).item()


def in_cells(codes: Tensor) -> float:
    cells, n = codes.flatten(1), len(codes)
    return ((cells[:, None] != cells[None]).float().sum() / (n * (n - 1))).item()


def halved(codes: Tensor) -> float:
    cells, n = codes.flatten(1), len(codes)
    return ((cells[:, None] != cells[None]).float().mean(2).sum() / (2 * n * (n - 1))).item()


def only_the_first(codes: Tensor) -> float:
    return (codes[1:] != codes[:1]).float().mean().item()


def only_neighbours(codes: Tensor) -> float:
    return (codes[1:] != codes[:-1]).float().mean().item()


def per_pair(codes: Tensor) -> Tensor:
    cells = codes.flatten(1)
    return (cells[:, None] != cells[None]).float().mean(2)


def joined_by_commas(folder: str, captions: dict[str, str]) -> None:
    lines = ["file_name,text", *(f"{name},{text}" for name, text in captions.items())]
    (Path(folder) / "captions.csv").write_text("\n".join(lines), encoding="utf-8")


def without_a_header(folder: str, captions: dict[str, str]) -> None:
    with (Path(folder) / "captions.csv").open("w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows(captions.items())


def another_name(folder: str, captions: dict[str, str]) -> None:
    with (Path(folder) / "captions.txt").open("w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([("file_name", "text"), *captions.items()])


def nothing_written(folder: str, captions: dict[str, str]) -> None:
    list(captions)


def names_without_ending(folder: str, captions: dict[str, str]) -> None:
    with (Path(folder) / "captions.csv").open("w", newline="", encoding="utf-8") as table:
        rows = [(name.removesuffix(".png"), text) for name, text in captions.items()]
        csv.writer(table).writerows([("file_name", "text"), *rows])


def quotation_marks_lost(folder: str, captions: dict[str, str]) -> None:
    with (Path(folder) / "captions.csv").open("w", newline="", encoding="utf-8") as table:
        rows = [(name, text.replace('"', "")) for name, text in captions.items()]
        csv.writer(table).writerows([("file_name", "text"), *rows])


WRONG = {
    "5.1": [
        "a cat on the moon",
        SEEN[:3],
        SEEN,
        [SEEN[0], *SEEN[:4]],
        ["a photo of a giraffe on the moon", *SEEN[:4]],
        ["a cartoon of a green cat in the city", *SEEN[1:]],
    ],
    "5.2": [
        without_guidance,
        exchanged,
        multiplied,
        logits_only,
        without_top_k,
        zeros_for_the_rest,
        cut_after_softmax,
        top_k_first,
    ],
    "5.3": [with_itself, equal_cells, in_cells, halved, only_the_first, only_neighbours, per_pair],
    "5.4": [
        joined_by_commas,
        without_a_header,
        another_name,
        nothing_written,
        names_without_ending,
        quotation_marks_lost,
    ],
}
