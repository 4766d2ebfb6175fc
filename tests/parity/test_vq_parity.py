"""The quantizers compared with vector-quantize-pytorch: output, loss, gradients, and the codebook after some steps."""

from typing import Any

import pytest
import torch
from atelier.blocks.vq import VQVAE, MovingAverageQuantizer, VectorQuantizer, VQVAEConfig
from atelier.weights.codebooks import with_moving_averages
from vector_quantize_pytorch import VectorQuantize

CODES, WIDTH, BETA, DECAY = 40, 6, 0.25, 0.9


def pair(by_gradient: bool = False, **options) -> tuple[Any, Any]:
    torch.manual_seed(0)
    if by_gradient:
        ours = VectorQuantizer(CODES, WIDTH, BETA)
    else:
        ours = MovingAverageQuantizer(CODES, WIDTH, BETA, DECAY, restart_below=0.0)
    theirs: Any = VectorQuantize(
        WIDTH, CODES, commitment_weight=BETA, decay=DECAY, accept_image_fmap=True, rotation_trick=False, **options
    )
    codebook = torch.randn(CODES, WIDTH)
    ours.load_state_dict(with_moving_averages(ours, {"embedding.weight": codebook}))
    with torch.no_grad():
        theirs._codebook.embed.copy_(codebook[None])
        theirs._codebook.embed_avg.copy_(codebook[None])
    return ours.train(), theirs.train()


def relative(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def test_three_training_steps_give_the_same_numbers():
    ours, theirs = pair()
    for _ in range(3):
        z_ours = torch.randn(4, WIDTH, 5, 5, requires_grad=True)
        z_theirs = z_ours.detach().clone().requires_grad_()
        weights = torch.randn(4, WIDTH, 5, 5)
        quantized = ours(z_ours)
        z_q, indices, loss = theirs(z_theirs)
        assert torch.equal(quantized.indices, indices)
        assert torch.allclose(quantized.z_q, z_q, atol=1e-6)
        assert quantized.loss.item() == pytest.approx(loss.item(), rel=1e-5)
        ((quantized.z_q * weights).sum() + quantized.loss).backward()
        ((z_q * weights).sum() + loss.sum()).backward()
        assert relative(z_ours.grad, z_theirs.grad) < 1e-6
        assert torch.allclose(ours.counts, theirs._codebook.cluster_size[0], rtol=1e-5)
        assert torch.allclose(ours.sums, theirs._codebook.embed_avg[0], atol=1e-5)
        assert torch.allclose(ours.embedding.weight, theirs.codebook, atol=1e-5)


def test_evaluation_and_lookup_give_the_same_codes():
    ours, theirs = (module.eval() for module in pair())
    z_e = torch.randn(4, WIDTH, 5, 5)
    quantized, (z_q, indices, _) = ours(z_e), theirs(z_e)
    assert torch.equal(quantized.indices, indices)
    assert torch.equal(quantized.z_q, z_q)
    assert torch.equal(ours.lookup(indices), theirs.get_output_from_indices(indices))


def test_gradients_of_a_codebook_learned_by_gradient():
    """Their loss weights both terms of eq. 3 with β; ours weights the codebook's term with 1."""
    ours, theirs = pair(by_gradient=True, learnable_codebook=True, ema_update=False)
    z_ours = torch.randn(4, WIDTH, 5, 5, requires_grad=True)
    z_theirs = z_ours.detach().clone().requires_grad_()
    ours(z_ours).loss.backward()
    theirs(z_theirs)[2].sum().backward()
    assert relative(z_ours.grad, z_theirs.grad) < 1e-5
    assert relative(BETA * ours.embedding.weight.grad, theirs._codebook.embed.grad[0]) < 1e-5


def test_a_vq_vae_trains_the_same_with_either_quantizer():
    """Compare the encoder's gradients and the updated codebook after one step of the whole network."""
    ours, theirs = pair()
    torch.manual_seed(1)
    model = VQVAE(VQVAEConfig(size=16, width=8, codes=CODES, code_width=WIDTH))
    model.quantize = ours
    pictures = torch.rand(4, 3, 16, 16)
    reconstructions, quantized = model(pictures)
    ((pictures - reconstructions).square().mean() + quantized.loss).backward()
    gradients = [parameter.grad.clone() for parameter in model.encoder.parameters() if parameter.grad is not None]
    model.zero_grad()
    z_q, indices, loss = theirs(model.encoder(pictures))
    ((pictures - model.decode(z_q)).square().mean() + loss.sum()).backward()
    assert torch.equal(quantized.indices, indices)
    assert len(gradients) == len(list(model.encoder.parameters()))
    for gradient, parameter in zip(gradients, model.encoder.parameters(), strict=True):
        assert parameter.grad is not None
        assert torch.allclose(gradient, parameter.grad, atol=1e-6 * max(1.0, parameter.grad.abs().max().item()))
    assert torch.allclose(ours.embedding.weight, theirs.codebook, atol=1e-5)
