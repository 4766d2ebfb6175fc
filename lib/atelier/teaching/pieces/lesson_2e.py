"""The pieces of lesson 2e, the VQ-GAN."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.vqgan import AttentionBlock, ResidualBlock, VQGANConfig
from atelier.teaching.exercises import AnswerError, expect_close, expect_tensor
from atelier.teaching.pieces import piece
from atelier.weights.streams import AnyModule

MODULE = "atelier.blocks.vqgan"
CONFIG = VQGANConfig(
    resolution=16, channels=8, multipliers=(1, 1), residual_blocks=1, attention_resolutions=(), z_channels=8, codes=16,
    code_width=4, group_norm_groups=4,
)  # fmt: skip


@piece(
    "2e.ResidualBlock.forward",
    MODULE,
    minutes=10,
    hints=(
        "Twice the same: normalise, swish, convolve. At the end the input is added. `F.silu` is swish.",
        "`self.nin_shortcut` changes the number of channels of x where that is necessary, and otherwise does nothing: "
        "add `self.nin_shortcut(x)`.",
    ),
)
def check_residual_block(forward: Callable[[ResidualBlock, Tensor], Tensor]) -> None:
    """x + conv(swish(norm(conv(swish(norm(x)))))), with and without a change of channels."""
    x = 2 * torch.randn(2, 8, 5, 5) + 1
    for outputs in (8, 12):
        block = _with_random_norms(ResidualBlock(CONFIG, 8, outputs))
        first = block.conv1(F.silu(block.norm1(x)))
        h = block.conv2(F.silu(block.norm2(first)))
        if outputs != 8:
            try:
                result = forward(block, x)
            except RuntimeError as error:
                raise AnswerError(
                    "right for equal channels, but if they change, x cannot be added: use self.nin_shortcut."
                ) from error
        else:
            result = forward(block, x)
        expect_close(
            expect_tensor(result, (2, outputs, 5, 5), "forward"),
            block.nin_shortcut(x) + h,
            {
                "the input is not added.": h,
                "swish is missing.": block.nin_shortcut(x) + block.conv2(block.norm2(block.conv1(block.norm1(x)))),
                "the second swish is missing.": block.nin_shortcut(x) + block.conv2(block.norm2(first)),
                "the norms are missing.": block.nin_shortcut(x) + block.conv2(F.silu(block.conv1(F.silu(x)))),
                "this has ReLU in place of swish.": block.nin_shortcut(x)
                + block.conv2(F.relu(block.norm2(block.conv1(F.relu(block.norm1(x)))))),
                "swish comes before the norm; it is the other way round.": block.nin_shortcut(x)
                + block.conv2(block.norm2(F.silu(block.conv1(block.norm1(F.silu(x)))))),
                "only the first half is there: two convolutions come before the sum.": (
                    block.nin_shortcut(x) + first if first.shape == h.shape else h + 1
                ),
            },
        )


def _with_random_norms(module: AnyModule) -> AnyModule:
    """Random weights in all norms, so that two different norms give different numbers."""
    for part in module.modules():
        if isinstance(part, nn.GroupNorm):
            nn.init.normal_(part.weight, 1.0, 0.5)
            nn.init.normal_(part.bias, 0.0, 0.5)
    return module


@piece(
    "2e.AttentionBlock.forward",
    MODULE,
    minutes=20,
    hints=(
        "Every position of the map is a token: turn (n, c, h, w) into (n, 1, h·w, c), one head, for queries, keys and "
        "values. Afterwards the tokens become a map again.",
        "`layer(h).flatten(2).transpose(1, 2)[:, None]` is (n, 1, h·w, c). The way back is "
        "`attended[:, 0].transpose(1, 2).reshape(x.shape)`.",
    ),
)
def check_attention_block(forward: Callable[[AttentionBlock, Tensor], Tensor]) -> None:
    """x + attention over all positions."""
    block, x = _with_random_norms(AttentionBlock(CONFIG, 8)), 2 * torch.randn(2, 8, 3, 4)
    for layer in (block.q, block.k):
        nn.init.normal_(layer.weight, 0.0, 0.6)
    h = block.norm(x)

    def tokens(layer: nn.Module, of: Tensor = h) -> Tensor:
        return layer(of).flatten(2).transpose(1, 2)  # (n, h·w, c)

    def attended(scale: float = 8**-0.5, of: Tensor = h) -> Tensor:
        weights = (scale * tokens(block.q, of) @ tokens(block.k, of).mT).softmax(-1)
        return weights @ tokens(block.v, of)  # (n, h·w, c)

    def as_map(tokens: Tensor) -> Tensor:
        return tokens.transpose(1, 2).reshape(x.shape)

    channels = (layer(h).flatten(2) for layer in (block.q, block.k, block.v))  # (n, c, h·w): a mistake
    expect_close(
        expect_tensor(forward(block, x), (2, 8, 3, 4), "forward"),
        x + block.proj_out(as_map(attended())),
        {
            "the input is not added.": block.proj_out(as_map(attended())),
            "the norm is missing.": x + block.proj_out(as_map(attended(of=x))),
            "the normalised input is added; add x itself.": h + block.proj_out(as_map(attended())),
            "the output projection, `proj_out`, is missing.": x + as_map(attended()),
            "the products are not divided by the square root of the width.": x + block.proj_out(as_map(attended(1.0))),
            "positions and channels are mixed up on the way back: transpose before you reshape.": (
                x + block.proj_out(attended().reshape(x.shape))
            ),
            "this attends over the channels; the positions are the tokens.": (
                x + block.proj_out(F.scaled_dot_product_attention(*channels).reshape(x.shape))
            ),
        },
    )


@piece(
    "2e.hinge_discriminator_loss",
    MODULE,
    minutes=5,
    hints=(
        "A real patch costs 1 − logit as long as its logit is below 1, and a reconstructed patch costs 1 + logit as "
        "long as its logit is above −1. Otherwise they cost nothing.",
        "`F.relu(1 - real_logits).mean()` is the first mean. Return half of the sum of both.",
    ),
)
def check_hinge_loss(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Half the sum of both hinge losses."""
    real, fake = torch.tensor([-1.7, 0.2, 0.6, 2.2, 1.1, 3.0]), torch.tensor([-2.0, -0.7, 0.3, 1.4])
    on_real, on_fake = F.relu(1 - real), F.relu(1 + fake)
    wanted = (on_real.mean() + on_fake.mean()) / 2
    expect_close(
        expect_tensor(loss(real, fake), (), "hinge_discriminator_loss"),
        wanted,
        {
            "this is the sum of both means; the loss is half of it.": 2 * wanted,
            "this is the mean over all patches together; each kind has its own mean.": (
                torch.cat([on_real, on_fake]).mean()
            ),
            "real and reconstructed patches are swapped.": (F.relu(1 + real).mean() + F.relu(1 - fake).mean()) / 2,
            "the hinge is missing: beyond ±1 a patch costs nothing.": ((1 - real).mean() + (1 + fake).mean()) / 2,
            "the 1 is missing: the hinge is at ±1, not at 0.": (F.relu(-real).mean() + F.relu(fake).mean()) / 2,
            "both terms have the sign of real patches.": (on_real.mean() + F.relu(1 - fake).mean()) / 2,
        },
    )


@piece(
    "2e.adaptive_weight",
    MODULE,
    minutes=15,
    hints=(
        "λ is the length of the gradient of the reconstruction loss divided by the length of the gradient of the "
        "adversarial loss, both with respect to the last layer.",
        "`torch.autograd.grad(nll, last_layer, retain_graph=True)` returns a tuple with the gradient. Add 1e-4 to the "
        "divisor, clamp to 10,000, and detach.",
    ),
)
def check_adaptive_weight(weight: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """The quotient of two gradients' lengths at the last layer, without gradient."""
    layer, other = nn.Parameter(torch.tensor([1.0, -2.0, 0.5])), nn.Parameter(torch.tensor([0.3, 0.1, -0.2]))
    nll = (layer * other).square().sum() + layer.square().sum()
    adversarial = 0.01 * ((layer**3).sum() + (other * layer).sum())  # small, so that the 1e-4 in the divisor matters
    lengths = [torch.autograd.grad(loss, layer, retain_graph=True)[0].norm() for loss in (nll, adversarial)]
    result = expect_tensor(weight(nll, adversarial, layer), (), "adaptive_weight")
    if layer.grad is not None or other.grad is not None:
        raise AnswerError(
            "it changed the .grad of a parameter, which the optimiser uses: torch.autograd.grad returns gradients and "
            "does not change .grad."
        )
    expect_close(
        result,
        lengths[0] / (lengths[1] + 1e-4),
        {
            "the quotient is inverted: the adversarial loss is multiplied by it.": lengths[1] / (lengths[0] + 1e-4),
            "this is the quotient of the losses; take that of their gradients' lengths.": nll / (adversarial + 1e-4),
            "the lengths are squared.": (lengths[0] / lengths[1]) ** 2,
            "this is the difference of the lengths; take their quotient.": lengths[0] - lengths[1],
            "this is the length of the reconstruction's gradient alone.": lengths[0],
            "the 1e-4 in the divisor is missing.": lengths[0] / lengths[1],
        },
        tolerance=2e-6,
    )
    if result.requires_grad:
        raise AnswerError("the number is right, but it has a gradient, so that training would change λ itself: detach.")
    try:
        torch.autograd.grad(nll + adversarial, layer, retain_graph=True)
    except RuntimeError as error:
        raise AnswerError(
            "the number is right, but the graph of the losses was freed: use retain_graph=True."
        ) from error
    huge = weight(1e9 * (layer**2).sum(), (layer * 1e-9).sum(), layer)
    if not huge <= 1e4:
        raise AnswerError("right, but λ is unlimited; clamp it to 10,000.")


@piece(
    "2e.perceptual_distance",
    MODULE,
    minutes=20,
    hints=(
        "For each pair of maps: scale the vector of features at each position to length 1, take the squared distance "
        "of the two vectors, and average it over the positions. Then average over the maps.",
        "`x * (x.square().sum(1, keepdim=True) + epsilon).rsqrt()` has vectors of length 1. "
        "`(a - b).square().sum(1).mean((1, 2))` is (n,). Keep the check of the shapes.",
    ),
)
def check_perceptual_distance(distance: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]) -> None:
    """The squared distances of normalised features, averaged over positions and maps."""
    first = [torch.randn(3, 4, 6, 6), 5 * torch.randn(3, 7, 2, 2)]
    second = [a + torch.randn_like(a) for a in first]

    def each(of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return torch.stack([of(a, b) for a, b in zip(first, second, strict=True)])  # (maps, n)

    def unit(x: Tensor, dim: int | tuple[int, ...] = 1) -> Tensor:
        return x * (x.square().sum(dim, keepdim=True) + 1e-4).rsqrt()

    squares = each(lambda a, b: (unit(a) - unit(b)).square().sum(1).mean((1, 2)))
    result = distance(first, second)
    if isinstance(result, Tensor) and result.ndim == 0:
        raise AnswerError("this is one number for the whole batch; return a distance for each pair of pictures, (n,).")
    expect_close(
        expect_tensor(result, (3,), "perceptual_distance"),
        squares.mean(0),
        {
            "the features are not scaled to length 1.": each(lambda a, b: (a - b).square().sum(1).mean((1, 2))).mean(0),
            "this is the sum over the maps; take their mean.": squares.sum(0),
            "this is the mean over the channels; the squared distance is their sum.": each(
                lambda a, b: (unit(a) - unit(b)).square().mean((1, 2, 3))
            ).mean(0),
            "this is the sum over the positions; take their mean.": each(
                lambda a, b: (unit(a) - unit(b)).square().sum((1, 2, 3))
            ).mean(0),
            "only the last map counts.": squares[-1],
            "only the first map counts.": squares[0],
            "the distance is not squared.": each(
                lambda a, b: (unit(a) - unit(b)).square().sum(1).sqrt().mean((1, 2))
            ).mean(0),
            "the length is taken over the whole map; each position has its own.": each(
                lambda a, b: (unit(a, (1, 2, 3)) - unit(b, (1, 2, 3))).square().sum(1).mean((1, 2))
            ).mean(0),
        },
    )
    nothing = [torch.zeros(2, 4, 3, 3, requires_grad=True)]
    (slope,) = torch.autograd.grad(distance(nothing, [torch.randn(2, 4, 3, 3)]).sum(), nothing)
    if not torch.isfinite(slope).all():
        raise AnswerError("right, but where all features are 0 the gradient is not finite: add epsilon under the root.")
    try:
        distance(first, first[:1])
    except ValueError:
        return
    raise AnswerError("right, but maps of different shapes or numbers are accepted: raise a ValueError.")
