"""The pieces of lesson 2d, the VQ-VAE."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.blocks.vq import (
    LAPLACE_EPSILON,
    MovingAverageQuantizer,
    Quantized,
    Usage,
    VectorQuantizer,
    nearest_codes,
)
from atelier.teaching.exercises import AnswerError, expect_close, expect_number, expect_tensor
from atelier.teaching.pieces import piece

VQ = "atelier.blocks.vq"


@piece(
    "2d.nearest_codes",
    VQ,
    minutes=15,
    hints=(
        "‖z − e‖² = ‖z‖² − 2 z·e + ‖e‖². The first term is the same for all codes, so it does not change which is the "
        "nearest.",
        "`vectors @ codebook.T` has all products z·e, (m, codes), and `codebook.square().sum(1)` all ‖e‖². Take the "
        "argmin over the codes.",
    ),
)
def check_nearest_codes(nearest: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The index of the nearest code of each vector; of equally near codes the lowest index."""
    vectors, codebook = torch.randn(40, 3), torch.randn(7, 3) * torch.tensor([[3.0], [0.2], [1], [1], [1], [1], [2]])
    result = expect_tensor(nearest(vectors, codebook), (40,), "nearest_codes")
    distances = torch.cdist(vectors, codebook)
    if result.is_floating_point():
        raise AnswerError(f"the indices have the type {result.dtype}; they should be whole numbers.")
    expect_close(
        result,
        distances.argmin(1),
        {
            "these are the farthest codes.": distances.argmax(1),
            "these are the codes with the largest product; a long code can win without being near.": (
                (vectors @ codebook.T).argmax(1)
            ),
            "these are the codes with the smallest product; the product has the factor −2.": (
                (vectors @ codebook.T).argmin(1)
            ),
            "the product has the factor −1; in ‖z − e‖² it has −2.": (
                (codebook.square().sum(1) - vectors @ codebook.T).argmin(1)
            ),
            "the product is added; in ‖z − e‖² it is subtracted.": (
                (codebook.square().sum(1) + 2 * vectors @ codebook.T).argmin(1)
            ),
            "these are the codes with the smallest sum of differences, without squares.": (
                (vectors[:, None] - codebook).sum(2).argmin(1)
            ),
            "these are the nearest codes by the sum of absolute differences; the distance has squares.": (
                (vectors[:, None] - codebook).abs().sum(2).argmin(1)
            ),
            "these are the codes at the smallest angle; the distance also depends on their length.": (
                (vectors @ F.normalize(codebook, dim=1).T).argmax(1)
            ),
        },
    )


@piece(
    "2d.straight_through",
    VQ,
    minutes=5,
    hints=(
        "The result has the value of z_q. Write it as z_q plus something whose value is 0 and whose gradient with "
        "respect to z_e is 1.",
        "`z_e - z_e.detach()` has the value 0 and the gradient 1. `z_q` itself is detached.",
    ),
)
def check_straight_through(straight_through: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The values of z_q, with the gradient passed on to z_e alone."""
    z_e, z_q = torch.randn(2, 5, 3, requires_grad=True), torch.randn(2, 5, 3, requires_grad=True)
    result = expect_tensor(straight_through(z_e, z_q), (2, 5, 3), "straight_through")
    expect_close(
        result,
        z_q,
        {
            "these are the values of z_e; they should be those of z_q.": z_e,
            "the term that you add for the gradient must have the value 0.": z_q + z_e,
            "these are zeros: the values of z_q are missing.": torch.zeros(2, 5, 3),
        },
    )
    if not result.requires_grad:
        raise AnswerError("the values are right, but there is no gradient: z_e gets none.")
    weights = torch.randn(2, 5, 3)
    to_z_e, to_z_q = torch.autograd.grad((result * weights).sum(), (z_e, z_q), allow_unused=True)
    if to_z_e is None:
        raise AnswerError("the values are right, but no gradient reaches z_e: the encoder would learn nothing.")
    expect_close(
        to_z_e,
        weights,
        {
            "z_e gets the gradient with the wrong sign.": -weights,
            "z_e gets the gradient twice.": 2 * weights,
            "the gradient of z_e is 0: its two terms cancel out, so detach one of them.": torch.zeros_like(weights),
        },
    )
    if to_z_q is not None and to_z_q.any():
        raise AnswerError("z_e gets its gradient, but z_q gets one as well: detach it.")


@piece(
    "2d.vq_loss",
    VQ,
    minutes=10,
    hints=(
        "The commitment term pulls z_e towards the code, so the code is detached in it. The other term pulls the code "
        "towards z_e, so z_e is detached.",
        "`beta * F.mse_loss(z_e, z_q.detach())` is the commitment. If `by_gradient` is true, add "
        "`F.mse_loss(z_q, z_e.detach())`.",
    ),
)
def check_vq_loss(vq_loss: Callable[[Tensor, Tensor, float, bool], Tensor]) -> None:
    """Both terms of the loss, each with its gradient."""
    z_e, z_q = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    error, beta = (z_e - z_q).square().mean(), 0.3
    both = expect_tensor(vq_loss(z_e, z_q, beta, True), (), "vq_loss")
    total = (z_e - z_q).square().sum()
    expect_close(
        both,
        (1 + beta) * error,
        {
            "β is missing.": 2 * error,
            "β is 0.25 here; use the argument beta.": 1.25 * error,
            "the squares are missing: these are the lengths of the differences.": (1 + beta) * total.sqrt(),
            "with by_gradient=True, the term that moves the codebook is missing.": beta * error,
            "the commitment term is missing.": error,
            "β multiplies both terms; it belongs to the commitment alone.": 2 * beta * error,
            "these are sums over all elements; the loss has means.": (1 + beta) * total,
        },
    )
    commitment = expect_tensor(vq_loss(z_e, z_q, beta, False), (), "vq_loss")
    expect_close(
        commitment,
        beta * error,
        {
            "with by_gradient=False, only the commitment term remains.": (1 + beta) * error,
            "with by_gradient=False, the weight β is missing, or this is the codebook's term; only β times the "
            "commitment term should remain.": error,
        },
    )
    _expect_gradients(both, z_e, z_q, beta)
    if not commitment.requires_grad:
        raise AnswerError("the commitment has no gradient: detach z_q in it, not z_e.")
    if torch.autograd.grad(commitment, z_q, allow_unused=True)[0] is not None:
        raise AnswerError("with by_gradient=False, the codebook gets a gradient: detach z_q in the commitment term.")


def _expect_gradients(loss: Tensor, z_e: Tensor, z_q: Tensor, beta: float) -> None:
    if not loss.requires_grad:
        raise AnswerError("the value is right, but there is no gradient.")
    of_error = 2 * (z_e - z_q).detach() / z_e.numel()
    to_z_e, to_z_q = torch.autograd.grad(loss, (z_e, z_q), allow_unused=True, retain_graph=True)
    if to_z_e is None or to_z_q is None:
        raise AnswerError("the value is right, but one of z_e and z_q gets no gradient: each term detaches only one.")
    swapped = "the two detached tensors are swapped: β should weaken the pull on z_e, not that on the codebook."
    expect_close(
        to_z_e,
        beta * of_error,
        {
            "z_e gets the gradient of both terms: detach it in the term that moves the codebook.": (
                (1 + beta) * of_error
            ),
            swapped: of_error,
        },
    )
    expect_close(
        to_z_q,
        -of_error,
        {"the code gets the gradient of both terms: detach it in the commitment term.": -(1 + beta) * of_error},
    )


@piece(
    "2d.VectorQuantizer.forward",
    VQ,
    minutes=20,
    hints=(
        "Four steps: the map as rows of vectors, the nearest code of each row, the loss, and the codes as a map again. "
        "`self.vectors_of` does the first.",
        "After `self.embedding(indices)` the channels are the last axis: `.reshape(n, h, w, c).permute(0, 3, 1, 2)`. "
        "Pass the codes through `straight_through` before that.",
    ),
)
def check_quantizer(forward: Callable[[VectorQuantizer, Tensor], Quantized]) -> None:
    """z_q, indices and loss of a map."""
    quantizer = VectorQuantizer(9, 3, beta=0.4)
    with torch.no_grad():
        quantizer.embedding.weight.normal_()
    z_e = torch.randn(2, 3, 4, 5, requires_grad=True)
    wanted = quantizer(z_e)
    result = forward(quantizer, z_e)
    if not isinstance(result, tuple) or getattr(result, "_fields", None) != Quantized._fields:
        raise AnswerError("forward returns three things, as Quantized(z_q, indices, loss).")
    z_q, indices, loss = result
    if isinstance(indices, Tensor) and indices.shape == (40,):
        raise AnswerError("the indices are in a row; they should have the shape of the map, (n, h, w).")
    expect_close(
        expect_tensor(indices, (2, 4, 5), "forward, as the indices,"),
        wanted.indices,
        {
            "the vectors are mixed up: reshape alone puts numbers of several cells into one vector.": nearest_codes(
                z_e.detach().reshape(-1, 3), quantizer.embedding.weight
            ).reshape(2, 4, 5),
        },
    )
    if isinstance(z_q, Tensor) and z_q.shape == (2, 4, 5, 3):
        raise AnswerError("the channels of z_q are the last axis; they come before the rows: permute the axes.")
    z_q = expect_tensor(z_q, (2, 3, 4, 5), "forward, as z_q,")
    expect_close(
        z_q,
        wanted.z_q,
        {
            "z_q has the right codes in the wrong cells: after the look-up the channels are the last axis.": (
                wanted.z_q.permute(0, 2, 3, 1).reshape(2, 3, 4, 5)
            ),
            "z_q is z_e itself.": z_e,
        },
    )
    gradient = torch.autograd.grad(z_q.sum(), z_e, allow_unused=True)[0] if z_q.requires_grad else None
    if gradient is None or not torch.equal(gradient, torch.ones_like(gradient)):
        raise AnswerError("z_q has the right values, but its gradient does not pass straight through to z_e.")
    expect_close(
        expect_tensor(loss, (), "forward, as the loss,"),
        wanted.loss,
        {
            "the loss is 0: it is computed after straight_through, when the vectors equal their codes.": (
                torch.zeros_like(wanted.loss)
            ),
            "β is 0.25 here; it is in self.beta.": wanted.loss * 1.25 / 1.4,
            "this is the commitment alone: this layer is learned by gradient, see self.learned_by_gradient.": (
                wanted.loss * 0.4 / 1.4
            ),
        },
    )
    _expect_loss_gradients(loss, wanted.loss, quantizer.embedding.weight, z_e)
    _expect_use_of_its_flag(forward, z_e)


def _expect_loss_gradients(loss: Tensor, wanted: Tensor, codebook: Tensor, z_e: Tensor) -> None:
    if not loss.requires_grad:
        raise AnswerError("the loss has the right value, but no gradient.")
    to_codes, to_z_e = torch.autograd.grad(loss, (codebook, z_e), allow_unused=True)
    right_to_codes, right_to_z_e = torch.autograd.grad(wanted, (codebook, z_e))
    if to_codes is None:
        raise AnswerError(
            "the loss gives the codebook no gradient: give vq_loss the codes themselves, as they are before "
            "straight_through."
        )
    if to_z_e is None:
        raise AnswerError("the loss gives z_e no gradient: the commitment term cannot work.")
    swapped = "the gradient of the loss is wrong: vq_loss takes z_e first, then the codes."
    expect_close(to_codes, right_to_codes, {swapped: 0.4 * right_to_codes})
    expect_close(to_z_e, right_to_z_e, {swapped: right_to_z_e / 0.4})


def _expect_use_of_its_flag(forward: Callable[[VectorQuantizer, Tensor], Quantized], z_e: Tensor) -> None:
    """A codebook of moving averages has the same forward, but only the commitment as its loss."""
    averaged = MovingAverageQuantizer(9, 3).eval()
    with torch.no_grad():
        averaged.embedding.weight.normal_()
    expect_close(
        forward(averaged, z_e).loss,
        averaged(z_e).loss,
        {
            "the loss always contains the codebook's term; give vq_loss self.learned_by_gradient.": (
                averaged(z_e).loss * 1.25 / 0.25
            ),
        },
    )


@piece(
    "2d.VectorQuantizer.lookup",
    VQ,
    minutes=5,
    hints=(
        "`self.embedding(indices)` gives the codes' vectors, with the numbers of a vector as the last axis.",
        "The channels come before rows and columns: `.permute(0, 3, 1, 2)`.",
    ),
)
def check_lookup(lookup: Callable[[VectorQuantizer, Tensor], Tensor]) -> None:
    """The vectors (n, width, h, w) of codes (n, h, w)."""
    quantizer, indices = VectorQuantizer(9, 3), torch.randint(9, (2, 4, 5))
    result = lookup(quantizer, indices)
    if isinstance(result, Tensor) and result.shape == (2, 4, 5, 3):
        raise AnswerError("the channels are the last axis; they come before the rows: permute the axes.")
    if isinstance(result, Tensor) and result.shape == (2, 3, 5, 4):
        raise AnswerError("rows and columns are swapped.")
    vectors = quantizer.embedding(indices)
    expect_close(
        expect_tensor(result, (2, 3, 4, 5), "lookup"),
        vectors.permute(0, 3, 1, 2),
        {
            "the shape is right, but numbers of several codes are mixed: use permute, not reshape.": vectors.reshape(
                2, 3, 4, 5
            ),
        },
    )
    if not result.requires_grad:
        raise AnswerError("the numbers are right, but the codebook gets no gradient: use self.embedding itself.")


@piece(
    "2d.codebook_usage",
    VQ,
    minutes=10,
    hints=(
        "The perplexity is e to the power of the entropy of the frequencies, and a frequency is a count divided by the "
        "sum of all counts.",
        "0 · log 0 counts as 0: `torch.special.xlogy(p, p)` does that. The share compares each count with "
        "`above * counts.mean()`.",
    ),
)
def check_codebook_usage(usage: Callable[..., Usage]) -> None:
    """The share of codes in use and the perplexity."""
    counts = torch.tensor([8.0, 4.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.1])
    result = usage(counts, 0.0)
    if not isinstance(result, tuple) or getattr(result, "_fields", None) != Usage._fields:
        raise AnswerError("codebook_usage returns two numbers, as Usage(share, perplexity).")
    if isinstance(result.perplexity, float | Tensor) and math.isnan(result.perplexity):
        raise AnswerError("the perplexity is NaN: a code that was never used has p = 0, and 0 · log 0 counts as 0.")
    share, perplexity = (expect_number(part, name) for part, name in zip(result, Usage._fields, strict=True))
    _expect_share(share, 5 / 8, 0.0)
    frequencies = counts.double() / counts.double().sum()
    entropy = -torch.special.xlogy(frequencies, frequencies).sum()
    expect_close(
        torch.tensor(perplexity).double(),
        entropy.exp(),
        {
            "this is the entropy; the perplexity is e to the power of it.": entropy,
            "the sign of the entropy is wrong.": (-entropy).exp(),
            "the entropy is in bits, but the base of the power is e.": (
                entropy / torch.tensor(2.0).double().log()
            ).exp(),
            "this is the number of codes in use, not the perplexity.": torch.tensor(5.0).double(),
            "this is 1 / Σ p²; the perplexity takes the entropy.": 1 / frequencies.square().sum(),
            "the entropy is the sum of −p log p, not their mean.": (entropy / 8).exp(),
        },
        tolerance=1e-3,
    )
    _expect_share(expect_number(usage(counts, 0.1)[0], "share"), 4 / 8, 0.1)
    _expect_multiple_of_the_mean(usage)
    try:
        usage(torch.tensor([5, 5, 5, 5]))
    except RuntimeError as error:
        raise AnswerError(
            "right for decimal counts, but counts may also be whole numbers: use counts.float()."
        ) from error


def _expect_multiple_of_the_mean(usage: Callable[..., Usage]) -> None:
    counts = torch.tensor([40.0, 13.0, 5.0, 3.0, 1.5, 0.3, 0.1, 0.1])
    share = expect_number(usage(counts, 0.1)[0], "share")
    for meaning, threshold in {
        "the counts are compared with `above` itself": 0.1,
        "the frequencies are compared with `above`": 0.1 * counts.sum(),
        "the counts are compared with `above` times the largest count": 0.1 * counts.max(),
    }.items():
        if abs(share - (counts > threshold).float().mean().item()) < 1e-6:
            raise AnswerError(f"{meaning}; compare them with `above` times the mean count.")
    _expect_share(share, 5 / 8, 0.1)


def _expect_share(share: float, wanted: float, above: float) -> None:
    if abs(share - wanted) < 1e-6:
        return
    if abs(share - 8 * wanted) < 1e-6:
        raise AnswerError("share is the number of codes in use; divide it by the number of codes.")
    if abs(share - (1 - wanted)) < 1e-6:
        raise AnswerError("share is the share of codes that are not in use.")
    if above and abs(share - 5 / 8) < 1e-6:
        raise AnswerError("`above` has no effect: a code is in use if its count is above `above` times the mean count.")
    if not above and share == 1:
        raise AnswerError("with above=0 the share is 1: a code that was never used is not in use; compare with >.")
    raise AnswerError(f"with above={above:g} the share is {share:.3g}, which is wrong.")


@piece(
    "2d.MovingAverageQuantizer.update_codebook",
    VQ,
    minutes=20,
    hints=(
        "First the counts and sums of the batch, then the moving averages N ← γ N + (1 − γ) n and m ← γ m + (1 − γ) s, "
        "and at last the codes e = m / N.",
        "`self.counts.lerp_(counts, 1 - self.decay)` is the moving average. Smooth the counts before you divide: "
        "(N + ε) / (total + codes · ε) · total.",
    ),
)
def check_update(update: Callable[[MovingAverageQuantizer, Tensor, Tensor], None]) -> None:
    """The moving averages after one batch, and the codes made of them."""
    vectors, indices = torch.randn(12, 3), torch.tensor([0, 3, 3, 1, 0, 3, 3, 1, 0, 0, 3, 4])
    learner, right = _moving_average(), _moving_average()
    before = _moving_average()
    update(learner, vectors, indices)
    right.update_codebook(vectors, indices)
    counts, sums = before.batch_statistics(vectors, indices)
    decay = before.decay
    expect_close(
        learner.counts,
        right.counts,
        {
            "the counts are unchanged.": before.counts,
            "γ and 1 − γ are swapped in the counts: the old average keeps the share γ.": (
                (1 - decay) * before.counts + decay * counts
            ),
            "the counts of the batch are added without 1 − γ.": decay * before.counts + counts,
            "the counts are those of this batch alone; they should be a moving average.": counts,
        },
    )
    expect_close(
        learner.sums,
        right.sums,
        {
            "the sums are unchanged.": before.sums,
            "γ and 1 − γ are swapped in the sums.": (1 - decay) * before.sums + decay * sums,
            "the sums of the batch are added without 1 − γ.": decay * before.sums + sums,
            "the sums are those of this batch alone.": sums,
        },
    )
    codes = learner.embedding.weight
    expect_close(
        codes,
        right.embedding.weight,
        {
            "the averages are right, but the codes are unchanged: write m / N into self.embedding.weight.": (
                before.embedding.weight
            ),
            "the codes are the sums; divide them by the counts.": right.sums,
            "LAPLACE_EPSILON is not added to the counts, so an unused code would be divided by almost 0.": (
                right.sums / right.counts[:, None]
            ),
            "ε is added to the counts, but the sum of the counts then changes: scale them back to their total.": (
                right.sums / (right.counts + LAPLACE_EPSILON)[:, None]
            ),
        },
        tolerance=1e-6,
    )


@piece(
    "2d.MovingAverageQuantizer.batch_statistics",
    VQ,
    minutes=15,
    hints=(
        "Vector i belongs to code indices[i]. So add 1 to the count of that code, and the vector to its sum.",
        "`torch.zeros_like(self.counts).index_add_(0, indices, ones)` adds one number of `ones` for each vector.",
    ),
)
def check_batch_statistics(
    statistics: Callable[[MovingAverageQuantizer, Tensor, Tensor], tuple[Tensor, Tensor]],
) -> None:
    """How many vectors belong to each code, and their sums."""
    quantizer, vectors = MovingAverageQuantizer(5, 3), torch.randn(12, 3)
    quantizer.counts.fill_(7.0)  # the averages so far, which are no part of the batch
    quantizer.sums.fill_(7.0)
    indices = torch.tensor([0, 3, 3, 1, 0, 3, 3, 1, 0, 0, 3, 2])  # the last code is not used
    result = statistics(quantizer, vectors, indices)
    if not isinstance(result, tuple) or len(result) != 2:
        raise AnswerError("batch_statistics returns two things, the counts and the sums.")
    if isinstance(result[0], Tensor) and result[0].shape == (4,):
        raise AnswerError("codes without vectors are left out; each of the self.codes codes has a count.")
    chosen = F.one_hot(indices, 5).float()  # (12, 5)
    counts, sums = chosen.sum(0), chosen.T @ vectors
    expect_close(
        expect_tensor(result[0], (5,), "batch_statistics, as the counts,"),
        counts,
        {
            "this tells which codes occur, not how often: `counts[indices] += 1` adds only once for each code.": (
                (counts > 0).float()
            ),
            "the averages so far are added; only this batch is asked for.": counts + 7,
            "these are shares; return the counts themselves.": counts / 12,
        },
    )
    last = torch.stack(
        [vectors[indices == code][-1] if (indices == code).any() else vectors[0] * 0 for code in range(5)]
    )
    expect_close(
        expect_tensor(result[1], (5, 3), "batch_statistics, as the sums,"),
        sums,
        {
            "these are the means of the vectors of each code; return their sums.": sums / counts.clamp(min=1)[:, None],
            "only the last vector of each code is kept: `sums[indices] += vectors` adds only once for each code.": last,
            "the averages so far are added; only this batch is asked for.": sums + 7,
        },
    )


def _moving_average() -> MovingAverageQuantizer:
    """A codebook in training, one of whose codes was hardly used."""
    quantizer = MovingAverageQuantizer(5, 3, decay=0.99)
    numbers = torch.Generator().manual_seed(1)
    quantizer.counts.copy_(torch.tensor([0.03, 0.01, 1e-6, 0.04, 0.02]))  # few, so that LAPLACE_EPSILON matters
    quantizer.sums.copy_(quantizer.counts[:, None] * torch.randn(5, 3, generator=numbers))
    quantizer.embedding.weight.data.copy_(torch.randn(5, 3, generator=numbers))
    return quantizer
