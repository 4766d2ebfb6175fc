"""The VQ-GAN, which encodes a picture as a grid of codes and decodes it again, and the losses that make it sharp.

Paper: Esser, Rombach and Ommer 2021, "Taming Transformers for High-Resolution Image Synthesis" (section 3.1; equations
below are this paper's). The architecture and the parameters' names are those of the published weights
(`encoder.down.0.block.0.norm1.weight`, …), so a published state dict, without its `loss.*`, loads strictly into
`VQGAN(VQGANConfig.f16_16384())`.

In shapes, n is the batch size, H and W are the height and width of a picture, and f is `VQGANConfig.factor`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.vq import MovingAverageQuantizer, Quantized, VectorQuantizer

PIXEL_RANGES = {"[0,1]": (0.0, 1.0), "[-1,1]": (-1.0, 1.0)}


@dataclass(frozen=True)
class VQGANConfig:
    """Sizes of a VQ-GAN, and how its codebook learns.

    Pictures of other sizes than `resolution` work too if `factor` divides their sides; the levels with attention stay
    the same. `pixel_range` depends on the weights; the methods of `VQGAN` take and return pictures from 0 to 1 in any
    case.
    """

    resolution: int  # height and width of the pictures, in pixels
    channels: int  # channels of the first level
    multipliers: tuple[int, ...]  # channels of each level, divided by `channels`; all levels but the last halve the map
    residual_blocks: int  # per level; the decoder has one more
    attention_resolutions: tuple[int, ...]  # sides of the maps with attention; the middle block always has it
    z_channels: int  # channels of the encoder's output and of the decoder's input
    codes: int  # codes in the codebook
    code_width: int  # dimension of a code
    group_norm_groups: int = 32  # groups of every GroupNorm; it divides `channels`
    group_norm_eps: float = 1e-6  # 1e-6 in the original, 1e-5 in some ports of it
    pixel_range: str = "[-1,1]"  # values of black and white inside the network, "[0,1]" or "[-1,1]"
    decoder_only: bool = False  # without an encoder, as in published files that hold only the decoder
    beta: float = 0.25  # weight of the codebook's commitment term
    decay: float | None = 0.99  # of the codebook's moving averages; None: the codebook is learned by gradient
    restart_below: float = 0.05  # restart of dead codes, see `MovingAverageQuantizer`

    @property
    def factor(self) -> int:
        """f, the pixels along one side that one code stands for: 16 for a model called f16."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def grid(self) -> int:
        """Codes along one side of a picture."""
        return self.resolution // self.factor

    @property
    def widths(self) -> list[int]:
        """Channels of each level."""
        return [self.channels * multiplier for multiplier in self.multipliers]

    @classmethod
    def f16_16384(cls) -> "VQGANConfig":
        """The published ImageNet model: 256 × 256 pixels as 16 × 16 codes, 16384 codes in the codebook.

        DALL·E Mini's VQ-GAN is this model, fine-tuned with pixel_range "[0,1]", which `dataclasses.replace` can set.
        """
        return cls(
            resolution=256,
            channels=128,
            multipliers=(1, 1, 2, 2, 4),
            residual_blocks=2,
            attention_resolutions=(16,),
            z_channels=256,
            codes=16384,
            code_width=256,
            decay=None,
            restart_below=0.0,
        )


class ResidualBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))). If the channels change, a 1 × 1 convolution is applied to x."""

    def __init__(self, config: VQGANConfig, inputs: int, outputs: int):
        super().__init__()
        self.norm1 = _norm(config, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = _norm(config, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) → (n, outputs, h, w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class AttentionBlock(nn.Module):
    """x + self-attention with one head over all positions of the map."""

    def __init__(self, config: VQGANConfig, width: int):
        super().__init__()
        self.norm = _norm(config, width)
        self.q = nn.Conv2d(width, width, 1)
        self.k = nn.Conv2d(width, width, 1)
        self.v = nn.Conv2d(width, width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, h, w) → (n, width, h, w)."""
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2)[:, None] for layer in (self.q, self.k, self.v))  # (n, 1, h·w, c)
        attended = F.scaled_dot_product_attention(q, k, v)  # (n, 1, h·w, c)
        return x + self.proj_out(attended[:, 0].transpose(1, 2).reshape(x.shape))  # (n, c, h, w)


class Downsample(nn.Module):
    """Halves height and width of a map."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, h, w) → (n, width, h/2, w/2)."""
        # Padded only at the right and the bottom, as in the model whose weights are published.
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles height and width of a map: every pixel is repeated twice in both directions, then convolved."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, h, w) → (n, width, 2h, 2w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The residual blocks at one resolution, each followed by attention if the config says so.

    Args:
        config: the config of the VQ-GAN.
        inputs: channels of the input.
        outputs: channels of the output.
        blocks: how many residual blocks.
        side: height and width of the map for pictures of `config.resolution`.
    """

    def __init__(self, config: VQGANConfig, inputs: int, outputs: int, blocks: int, side: int):
        super().__init__()
        widths = [inputs] + [outputs] * (blocks - 1)
        self.block = nn.ModuleList(ResidualBlock(config, width, outputs) for width in widths)
        attentions = blocks if side in config.attention_resolutions else 0
        self.attn = nn.ModuleList(AttentionBlock(config, outputs) for _ in range(attentions))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) → (n, outputs, h, w)."""
        for number, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[number](x)
        return x


class EncoderLevel(Level):
    """A level of the encoder; every level but the last halves the map at its end."""

    def __init__(self, config: VQGANConfig, inputs: int, outputs: int, side: int, last: bool):
        super().__init__(config, inputs, outputs, config.residual_blocks, side)
        self.downsample = nn.Identity() if last else Downsample(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) → (n, outputs, h/2, w/2), or (n, outputs, h, w) at the last level."""
        return self.downsample(super().forward(x))


class DecoderLevel(Level):
    """A level of the decoder; every level but the last doubles the map at its end."""

    def __init__(self, config: VQGANConfig, inputs: int, outputs: int, side: int, last: bool):
        super().__init__(config, inputs, outputs, config.residual_blocks + 1, side)
        self.upsample = nn.Identity() if last else Upsample(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) → (n, outputs, 2h, 2w), or (n, outputs, h, w) at the last level."""
        return self.upsample(super().forward(x))


class Middle(nn.Module):
    """Residual block, attention, residual block, at the lowest resolution."""

    def __init__(self, config: VQGANConfig, width: int):
        super().__init__()
        self.block_1 = ResidualBlock(config, width, width)
        self.attn_1 = AttentionBlock(config, width)
        self.block_2 = ResidualBlock(config, width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, h, w) → (n, width, h, w)."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Encodes pictures, in the network's pixel range, as feature maps."""

    def __init__(self, config: VQGANConfig):
        super().__init__()
        widths = config.widths
        inputs = [config.channels, *widths]
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1)
        self.down = nn.ModuleList(
            EncoderLevel(config, inputs[level], width, config.resolution // 2**level, last=level == len(widths) - 1)
            for level, width in enumerate(widths)
        )
        self.mid = Middle(config, widths[-1])
        self.norm_out = _norm(config, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, H, W) → (n, z_channels, H/f, W/f)."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """Decodes feature maps to pictures in the network's pixel range."""

    def __init__(self, config: VQGANConfig):
        super().__init__()
        widths = config.widths
        inputs = [*widths[1:], widths[-1]]
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(config, widths[-1])
        # Numbered as in the encoder, from the highest resolution to the lowest; `forward` runs them in reverse.
        self.up = nn.ModuleList(
            DecoderLevel(config, inputs[level], width, config.resolution // 2**level, last=level == 0)
            for level, width in enumerate(widths)
        )
        self.norm_out = _norm(config, widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(n, z_channels, h, w) → (n, 3, f·h, f·w)."""
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class VQGAN(nn.Module):
    """Encoder, codebook and decoder. Input and output pictures are (n, 3, H, W), from 0 to 1."""

    def __init__(self, config: VQGANConfig):
        super().__init__()
        self.config = config
        if not config.decoder_only:
            self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        if config.decay is None:
            self.quantize = VectorQuantizer(config.codes, config.code_width, config.beta)
        else:
            self.quantize = MovingAverageQuantizer(
                config.codes, config.code_width, config.beta, config.decay, config.restart_below
            )
        if not config.decoder_only:
            self.quant_conv = nn.Conv2d(config.z_channels, config.code_width, 1)
        self.post_quant_conv = nn.Conv2d(config.code_width, config.z_channels, 1)

    @property
    def last_layer(self) -> Tensor:
        """The weight of the decoder's last convolution, with respect to which `adaptive_weight` takes gradients."""
        return self.decoder.conv_out.weight

    def encode(self, pictures: Tensor) -> Quantized:
        """Encodes pictures as codes.

        Args:
            pictures: (n, 3, H, W), from 0 to 1, H and W multiples of `config.factor`.

        Returns:
            z_q (n, code_width, H/f, W/f), indices (n, H/f, W/f), and the quantiser's loss.

        Raises:
            ValueError: if the pictures have another shape, or the model has no encoder.
        """
        if self.config.decoder_only:
            raise ValueError(
                "This VQ-GAN has no encoder: it can turn codes into pictures, but not pictures into codes."
            )
        factor = self.config.factor
        if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.shape[2] % factor or pictures.shape[3] % factor:
            raise ValueError(
                f"The encoder takes pictures of shape (n, 3, H, W) with sides that {factor} divides, "
                f"but got {tuple(pictures.shape)}."
            )
        low, high = PIXEL_RANGES[self.config.pixel_range]
        return self.quantize(self.quant_conv(self.encoder(pictures * (high - low) + low)))

    def decode(self, z_q: Tensor) -> Tensor:
        """Decodes codes' vectors to pictures.

        Args:
            z_q: (n, code_width, h, w).

        Returns:
            Pictures (n, 3, f·h, f·w). Black is 0 and white is 1, but the values are not clamped: in training, values
            outside that range need a gradient.
        """
        low, high = PIXEL_RANGES[self.config.pixel_range]
        return (self.decoder(self.post_quant_conv(z_q)) - low) / (high - low)

    @torch.no_grad()
    def decode_codes(self, indices: Tensor) -> Tensor:
        """Decodes codes to pictures, without gradients.

        Args:
            indices: the numbers of the codes, (n, h, w).

        Returns:
            Pictures (n, 3, f·h, f·w), clamped to [0, 1].

        Raises:
            ValueError: if the indices have another shape, or one of them is not in the codebook.
        """
        if indices.ndim != 3:
            raise ValueError(f"The decoder takes codes of shape (n, h, w), but got {tuple(indices.shape)}.")
        lowest, highest = (int(edge) for edge in indices.aminmax())
        if lowest < 0 or highest >= self.config.codes:
            raise ValueError(
                f"The codebook has the codes 0 to {self.config.codes - 1}, but these are {lowest} to {highest}."
            )
        return self.decode(self.quantize.lookup(indices)).clamp(0, 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Quantized]:
        """Reconstructs pictures (n, 3, H, W).

        Returns:
            The reconstructions (n, 3, H, W), not clamped, and what `encode` returns.
        """
        quantized = self.encode(pictures)
        return self.decode(quantized.z_q), quantized


class PatchDiscriminator(nn.Module):
    """Classifies each patch of a picture as real (logit above 0) or reconstructed (below 0).

    Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks", section 3.2.2.

    Args:
        channels: channels of the pictures.
        width: channels after the first layer; they double from layer to layer, up to 8 · width.
        layers: how many layers halve the map; with three, a logit depends on 70 × 70 pixels.
    """

    def __init__(self, channels: int = 3, width: int = 64, layers: int = 3):
        super().__init__()
        widths = [width * min(2**layer, 8) for layer in range(layers + 1)]
        stack: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for layer in range(1, layers + 1):
            stride = 2 if layer < layers else 1
            convolution = nn.Conv2d(widths[layer - 1], widths[layer], 4, stride, padding=1, bias=False)
            stack += [convolution, nn.BatchNorm2d(widths[layer]), nn.LeakyReLU(0.2)]
        self.main = nn.Sequential(*stack, nn.Conv2d(widths[-1], 1, 4, padding=1))
        for module in self.main:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (n, 1, h, w), one per patch, for pictures (n, channels, H, W) from 0 to 1."""
        return self.main(pictures * 2 - 1)


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's hinge loss: zero where real logits are above 1 and fake ones below −1.

    Args:
        real_logits: the logits of patches of real pictures, of any shape.
        fake_logits: the logits of patches of reconstructions, of any shape.

    Returns:
        A scalar: half the sum of both means.
    """
    return (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()) / 2


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """The generator's adversarial loss: the negative mean of the logits of its reconstructions, a scalar."""
    return -fake_logits.mean()


def adaptive_weight(nll: Tensor, generator_loss: Tensor, last_layer: Tensor) -> Tensor:
    """λ of eq. 7: the factor that makes the adversarial loss's gradient as large as the reconstruction loss's.

    Args:
        nll: the reconstruction loss (of pixels and features), a scalar.
        generator_loss: from `hinge_generator_loss`, a scalar.
        last_layer: `VQGAN.last_layer`; the gradients of both losses are taken with respect to it.

    Returns:
        A scalar without gradient, from 0 to 10,000. The adversarial loss is multiplied by it, by the discriminator's
        weight (0.75 or 0.8 in the paper's configurations), and by 0 before the discriminator starts.
    """
    (nll_gradient,) = torch.autograd.grad(nll, last_layer, retain_graph=True)
    (generator_gradient,) = torch.autograd.grad(generator_loss, last_layer, retain_graph=True)
    return (nll_gradient.norm() / (generator_gradient.norm() + 1e-4)).clamp(0, 1e4).detach()


def perceptual_distance(features_a: Sequence[Tensor], features_b: Sequence[Tensor], epsilon: float = 1e-4) -> Tensor:
    """The distance between a network's features of two batches of pictures, pair by pair.

    As in Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", eq. 1, with
    equal weights: the feature vector at each position of each map is scaled to norm 1, and the squared distance between
    the two batches is averaged over positions, then over maps.

    Args:
        features_a: feature maps (n, c_i, h_i, w_i) of the first batch, from any network.
        features_b: feature maps of the second batch, of the same shapes.
        epsilon: added to the squared norm, so that the gradient stays finite where all features are 0.

    Returns:
        The distance of each pair of pictures, (n,), from 0 (same directions) to 4 (opposite directions).

    Raises:
        ValueError: if the maps' shapes differ, or there are none.
    """
    shapes_a, shapes_b = ([tuple(features.shape) for features in maps] for maps in (features_a, features_b))
    if shapes_a != shapes_b or not shapes_a:
        raise ValueError(
            f"Two batches' maps must have the same shapes to be compared, but got {shapes_a} and {shapes_b}."
        )
    distances = []
    for a, b in zip(features_a, features_b, strict=True):
        a, b = (x.float() * (x.float().square().sum(1, keepdim=True) + epsilon).rsqrt() for x in (a, b))
        distances.append((a - b).square().sum(1).mean((1, 2)))  # (n,)
    return torch.stack(distances).mean(0)


def _norm(config: VQGANConfig, width: int) -> nn.GroupNorm:
    return nn.GroupNorm(config.group_norm_groups, width, eps=config.group_norm_eps)
