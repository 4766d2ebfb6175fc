"""Plausible wrong answers to the exercises of lesson 2e, each with a mistake of its own."""

import math

import torch
import torch.nn.functional as F
from atelier.blocks.vqgan import AttentionBlock, ResidualBlock, VQGANConfig, perceptual_distance
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


def residual_without_sum(self: ResidualBlock, x: Tensor) -> Tensor:
    return self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


def residual_without_shortcut(self: ResidualBlock, x: Tensor) -> Tensor:
    return x + residual_without_sum(self, x)


def residual_with_relu(self: ResidualBlock, x: Tensor) -> Tensor:
    return self.nin_shortcut(x) + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


def residual_without_norms(self: ResidualBlock, x: Tensor) -> Tensor:
    return self.nin_shortcut(x) + self.conv2(F.silu(self.conv1(F.silu(x))))


def tokens_of(self: AttentionBlock, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (layer(self.norm(x)).flatten(2).transpose(1, 2)[:, None] for layer in (self.q, self.k, self.v))
    return q, k, v


def attention_back_by_reshape(self: AttentionBlock, x: Tensor) -> Tensor:
    return x + self.proj_out(F.scaled_dot_product_attention(*tokens_of(self, x)).reshape(x.shape))


def attention_without_sum(self: AttentionBlock, x: Tensor) -> Tensor:
    attended = F.scaled_dot_product_attention(*tokens_of(self, x))
    return self.proj_out(attended[:, 0].transpose(1, 2).reshape(x.shape))


def attention_over_channels(self: AttentionBlock, x: Tensor) -> Tensor:
    q, k, v = (layer(self.norm(x)).flatten(2) for layer in (self.q, self.k, self.v))
    return x + self.proj_out(F.scaled_dot_product_attention(q, k, v).reshape(x.shape))


def hinge_as_sum(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_at_zero(real: Tensor, fake: Tensor) -> Tensor:
    return (F.relu(-real).mean() + F.relu(fake).mean()) / 2


def hinge_swapped(real: Tensor, fake: Tensor) -> Tensor:
    return (F.relu(1 + real).mean() + F.relu(1 - fake).mean()) / 2


def gradient_lengths(nll: Tensor, adversarial: Tensor, layer: Tensor) -> list[Tensor]:
    return [torch.autograd.grad(loss, layer, retain_graph=True)[0].norm() for loss in (nll, adversarial)]


def weight_inverted(nll: Tensor, adversarial: Tensor, layer: Tensor) -> Tensor:
    first, second = gradient_lengths(nll, adversarial, layer)
    return second / (first + 1e-4)


def weight_of_losses(nll: Tensor, adversarial: Tensor, layer: Tensor) -> Tensor:
    return (nll / (adversarial + 1e-4)).detach()


def weight_without_limit(nll: Tensor, adversarial: Tensor, layer: Tensor) -> Tensor:
    first, second = gradient_lengths(nll, adversarial, layer)
    return first / (second + 1e-4)


def weight_by_backward(nll: Tensor, adversarial: Tensor, layer: Tensor) -> Tensor:
    lengths = []
    for loss in (nll, adversarial):
        layer.grad = None
        loss.backward(retain_graph=True)
        lengths.append(torch.as_tensor(layer.grad).norm())
    return lengths[0] / (lengths[1] + 1e-4)


def distance_without_length_1(first: list[Tensor], second: list[Tensor]) -> Tensor:
    return torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in zip(first, second, strict=False)]).mean(0)


def distance_for_the_batch(first: list[Tensor], second: list[Tensor]) -> Tensor:
    return perceptual_distance(first, second).mean()


def distance_of_the_last_map(first: list[Tensor], second: list[Tensor]) -> Tensor:
    return perceptual_distance(first[-1:], second[-1:])


def distance_without_check(first: list[Tensor], second: list[Tensor]) -> Tensor:
    number = min(len(first), len(second))
    return perceptual_distance(first[:number], second[:number])


WRONG_PIECES = {
    "2e.ResidualBlock.forward": [
        residual_without_sum,
        residual_without_shortcut,
        residual_with_relu,
        residual_without_norms,
    ],
    "2e.AttentionBlock.forward": [attention_back_by_reshape, attention_without_sum, attention_over_channels],
    "2e.hinge_discriminator_loss": [hinge_as_sum, hinge_at_zero, hinge_swapped],
    "2e.adaptive_weight": [weight_inverted, weight_of_losses, weight_without_limit, weight_by_backward],
    "2e.perceptual_distance": [
        distance_without_length_1,
        distance_for_the_batch,
        distance_of_the_last_map,
        distance_without_check,
    ],
}
