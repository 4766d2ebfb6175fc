"""Plausible wrong answers to the exercises of lesson 2e, each with a mistake of its own."""

import math

import torch
from atelier.blocks.vqgan import VQGANConfig
from torch import Tensor


def one_row(config: VQGANConfig) -> float:
    return config.grid * math.log2(config.codes)


def nats(config: VQGANConfig) -> float:
    return config.grid**2 * math.log(config.codes)


def whole_codebook(config: VQGANConfig) -> float:
    return config.grid**2 * config.codes


def vectors_themselves(config: VQGANConfig) -> float:
    return config.grid**2 * config.code_width * 32


def every_pixel(config: VQGANConfig) -> float:
    return config.resolution**2 * math.log2(config.codes)


def field(strides: list[int]) -> int:
    side = 1
    for stride in reversed(strides):
        side = side * stride + 4 - stride
    return side


def without_logits(layers: int) -> int:
    return field([2] * layers + [1])


def halving_only(layers: int) -> int:
    return field([2] * layers)


def all_halving(layers: int) -> int:
    return field([2] * (layers + 2))


def no_strides(layers: int) -> int:
    return 1 + 3 * (layers + 2)


def wrong_order(layers: int) -> int:
    return field([1, 1] + [2] * layers)


def stopped(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return torch.cat([real_logits.flatten() >= 1, fake_logits.flatten() <= -1]).float().mean()


def wrongly_judged(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return torch.cat([real_logits.flatten() < 0, fake_logits.flatten() > 0]).float().mean()


def mean_of_means(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return ((real_logits < 1).float().mean() + (fake_logits > -1).float().mean()) / 2


def signs_mixed_up(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return torch.cat([real_logits.flatten() > -1, fake_logits.flatten() < 1]).float().mean()


def patch_by_patch(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return (real_logits < 1).float()


def lengths(nll: Tensor, adversarial: Tensor, last_layer: Tensor, keep: bool = True) -> tuple[Tensor, Tensor]:
    (first,) = torch.autograd.grad(nll, last_layer, retain_graph=keep)
    (second,) = torch.autograd.grad(adversarial, last_layer, retain_graph=keep)
    return first.norm(), second.norm()


def upside_down(nll: Tensor, adversarial: Tensor, last_layer: Tensor, weight: float) -> Tensor:
    first, second = lengths(nll, adversarial, last_layer)
    return nll + weight * second / (first + 1e-4) * adversarial


def without_weight(nll: Tensor, adversarial: Tensor, last_layer: Tensor, weight: float) -> Tensor:
    first, second = lengths(nll, adversarial, last_layer)
    return nll + first / (second + 1e-4) * adversarial


def graph_gone(nll: Tensor, adversarial: Tensor, last_layer: Tensor, weight: float) -> Tensor:
    first, second = lengths(nll, adversarial, last_layer, keep=False)
    return nll + weight * first / (second + 1e-4) * adversarial


def loss_detached(nll: Tensor, adversarial: Tensor, last_layer: Tensor, weight: float) -> Tensor:
    first, second = lengths(nll, adversarial, last_layer)
    return nll + (weight * first / (second + 1e-4) * adversarial).detach()


def path_for_gradients(nll: Tensor, adversarial: Tensor, last_layer: Tensor, weight: float) -> Tensor:
    (first,) = torch.autograd.grad(nll, last_layer, create_graph=True)
    (second,) = torch.autograd.grad(adversarial, last_layer, create_graph=True)
    return nll + weight * first.norm() / (second.norm() + 1e-4) * adversarial


def backward_called(nll: Tensor, adversarial: Tensor, last_layer: Tensor, weight: float) -> Tensor:
    first, second = lengths(nll, adversarial, last_layer)
    loss = nll + weight * first / (second + 1e-4) * adversarial
    loss.backward()
    return loss


WRONG = {
    "2e.1": [one_row, nats, whole_codebook, vectors_themselves, every_pixel],
    "2e.2": [without_logits, halving_only, all_halving, no_strides, wrong_order],
    "2e.3": [stopped, wrongly_judged, mean_of_means, signs_mixed_up, patch_by_patch],
    "2e.4": [upside_down, without_weight, graph_gone, loss_detached, path_for_gradients, backward_called],
}
