"""The codebook layer and the VQ-VAE: arithmetic by hand, a codebook over many steps, gradients, learning, bad input."""

import copy
import math
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from atelier.blocks.vq import (
    LAPLACE_EPSILON,
    VQVAE,
    MovingAverageQuantizer,
    VectorQuantizer,
    VQVAEConfig,
    assignment,
    codebook_usage,
    nearest_codes,
    straight_through,
    vq_loss,
)
from atelier.training.codebook import prepare_codebook
from atelier.weights.codebooks import moving_average_keys, with_moving_averages
from atelier.weights.sizes import check_codebook, check_sizes
from atelier.world import sprites
from torch import nn


def with_codes(rows: list[list[float]], **options) -> MovingAverageQuantizer:
    quantizer = MovingAverageQuantizer(len(rows), len(rows[0]), **options)
    quantizer.load_state_dict(with_moving_averages(quantizer, {"embedding.weight": torch.tensor(rows)}))
    return quantizer


def plain_with_codes(rows: list[list[float]], **options) -> VectorQuantizer:
    quantizer = VectorQuantizer(len(rows), len(rows[0]), **options)
    quantizer.load_state_dict({"embedding.weight": torch.tensor(rows)})
    return quantizer


def as_map(vectors: torch.Tensor) -> torch.Tensor:
    """(m, c) → (1, c, 1, m)."""
    return vectors.T[None, :, None]


def gradient(tensor: torch.Tensor) -> torch.Tensor:
    assert tensor.grad is not None
    return tensor.grad


def test_every_vector_becomes_its_nearest_code_where_it_stands():
    torch.manual_seed(0)
    quantizer = with_codes(torch.randn(17, 5).tolist()).eval()
    z_e = torch.randn(2, 5, 3, 4)
    quantized = quantizer(z_e)
    codebook = quantizer.embedding.weight
    for n in range(2):
        for y in range(3):
            for x in range(4):
                nearest = min(range(17), key=lambda k: (z_e[n, :, y, x] - codebook[k]).norm().item())
                assert quantized.indices[n, y, x] == nearest
                assert torch.equal(quantized.z_q[n, :, y, x], codebook[nearest])


def test_of_equally_near_codes_the_lowest_is_taken():
    quantizer = with_codes([[5.0, 5.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]).eval()
    assert quantizer(torch.zeros(1, 2, 1, 1)).indices.item() == 1
    assert quantizer(as_map(torch.tensor([[2.0, 0.0]]))).indices.item() == 1


def test_the_assignment_is_one_for_the_nearest_code_and_zero_for_all_others():
    torch.manual_seed(0)
    vectors, codebook = torch.randn(50, 3), torch.randn(7, 3)
    q = assignment(vectors, codebook)
    by_hand = torch.zeros(50, 7)
    for row, vector in enumerate(vectors):
        by_hand[row, (vector - codebook).norm(dim=1).argmin()] = 1
    assert torch.equal(q, by_hand)
    assert torch.equal(q @ codebook, codebook[nearest_codes(vectors, codebook)])


def test_straight_through_has_the_values_of_one_and_the_gradient_of_the_other():
    z_e, z_q, weights = (torch.randn(6, 4, requires_grad=True) for _ in range(3))
    through = straight_through(z_e, z_q)
    assert torch.equal(through, z_q)
    (through * weights.detach()).sum().backward()
    assert torch.equal(gradient(z_e), weights)
    assert z_q.grad is None


def test_each_term_of_the_loss_pulls_at_one_side():
    z_e, z_q = torch.tensor([[1.0, 3.0]], requires_grad=True), torch.tensor([[0.0, 1.0]], requires_grad=True)
    commitment, both = vq_loss(z_e, z_q, 0.5, by_gradient=False), vq_loss(z_e, z_q, 0.5, by_gradient=True)
    assert (commitment.item(), both.item()) == pytest.approx((0.5 * 2.5, 1.5 * 2.5))
    assert torch.autograd.grad(commitment, (z_e, z_q), allow_unused=True)[1] is None
    for side, expected in zip(torch.autograd.grad(both, (z_e, z_q)), ([0.5, 1.0], [-1.0, -2.0]), strict=True):
        assert side.tolist() == [pytest.approx(expected)]


@pytest.mark.parametrize("kind", [VectorQuantizer, MovingAverageQuantizer])
def test_lookup_gives_back_exactly_what_quantising_gave(kind: type[VectorQuantizer]):
    quantizer = kind(32, 6)
    quantizer(torch.randn(4, 6, 4, 4))
    quantized = quantizer.eval()(torch.randn(3, 6, 2, 5))
    assert torch.equal(quantizer.lookup(quantized.indices), quantized.z_q)


def test_gradients_pass_straight_through_to_the_encoder():
    quantizer = with_codes(torch.randn(8, 3).tolist()).eval()
    z_e = torch.randn(2, 3, 2, 2, requires_grad=True)
    weights = torch.randn(2, 3, 2, 2)
    (quantizer(z_e).z_q * weights).sum().backward()
    assert torch.equal(gradient(z_e), weights)
    assert quantizer.embedding.weight.grad is None


def test_the_moving_average_codebook_adds_only_the_commitment_term():
    quantizer = with_codes([[0.0, 0.0], [10.0, 10.0]], beta=0.25).eval()
    z_e = as_map(torch.tensor([[1.0, 3.0], [10.0, 12.0]])).requires_grad_()
    loss = quantizer(z_e).loss
    assert loss.item() == pytest.approx(0.25 * (1 + 9 + 0 + 4) / 4)
    loss.backward()
    assert torch.allclose(gradient(z_e), as_map(0.25 * 2 / 4 * torch.tensor([[1.0, 3.0], [0.0, 2.0]])))


def test_the_codebook_learned_by_gradient_has_both_terms_with_beta_on_the_commitment():
    quantizer = plain_with_codes([[0.0, 0.0], [10.0, 10.0]], beta=0.1)
    z_e = as_map(torch.tensor([[1.0, 3.0], [10.0, 12.0]])).requires_grad_()
    loss = quantizer(z_e).loss
    assert loss.item() == pytest.approx((1 + 0.1) * 14 / 4)
    loss.backward()
    difference = torch.tensor([[1.0, 3.0], [0.0, 2.0]])
    assert torch.allclose(gradient(z_e), as_map(0.1 * 2 / 4 * difference))
    assert torch.allclose(gradient(quantizer.embedding.weight), -2 / 4 * difference)


def test_one_step_of_the_moving_averages_by_hand():
    quantizer = with_codes([[0.0], [10.0]], decay=0.9, restart_below=0.0).train()
    quantizer(as_map(torch.tensor([[1.0], [2.0], [3.0], [9.0]])))
    counts = [0.9 * 1 + 0.1 * 3, 0.9 * 1 + 0.1 * 1]
    sums = [0.9 * 0 + 0.1 * 6, 0.9 * 10 + 0.1 * 9]
    smoothed = [(n + LAPLACE_EPSILON) / (sum(counts) + 2 * LAPLACE_EPSILON) * sum(counts) for n in counts]
    assert quantizer.counts.tolist() == pytest.approx(counts)
    assert quantizer.embedding.weight.flatten().tolist() == pytest.approx(
        [total / n for total, n in zip(sums, smoothed, strict=True)]
    )


def test_the_codebook_finds_the_centres_of_the_data():
    torch.manual_seed(0)
    centres = torch.randn(16, 4) * 5
    quantizer = MovingAverageQuantizer(24, 4, decay=0.9, restart_below=0.1)
    for _ in range(150):
        chosen = torch.randint(16, (64,))
        quantizer(as_map(centres[chosen] + 0.05 * torch.randn(64, 4)))
    error = (quantizer.eval()(as_map(centres)).z_q - as_map(centres)).abs().max()
    assert error < 0.3


def test_the_codebook_starts_as_vectors_of_the_first_batch():
    quantizer = MovingAverageQuantizer(8, 3, restart_below=0.0)
    vectors = torch.randn(50, 3)
    codebook = {tuple(code) for code in quantizer(as_map(vectors)).z_q[0, :, 0].T.tolist()}
    assert len(codebook) == 8
    assert codebook <= {tuple(vector) for vector in vectors.tolist()}


def test_a_first_batch_smaller_than_the_codebook_is_enough():
    quantizer = MovingAverageQuantizer(64, 3)
    quantizer(torch.randn(1, 3, 2, 2))
    assert quantizer.embedding.weight.isfinite().all()
    assert quantizer.usage().share == 1.0


def test_dead_codes_start_again_from_the_batch_and_only_they():
    rows = [[0.0, 0.0], [1.0, 1.0], [100.0, 100.0], [-100.0, 100.0]]
    kept, restarted = (with_codes(rows, restart_below=share, decay=0.5).train() for share in (0.0, 0.3))
    for _ in range(8):
        vectors = torch.rand(40, 2)
        kept(as_map(vectors))
        restarted(as_map(vectors))
    assert kept.embedding.weight[2:].norm(dim=1).min() > 90
    assert restarted.embedding.weight.norm(dim=1).max() < 2
    assert kept.usage().share == 0.5
    assert restarted.usage().share == 1.0


def test_an_unused_code_learned_by_gradient_stays_where_it_is():
    quantizer = plain_with_codes([[0.0, 0.0], [50.0, 50.0]]).train()
    optimiser = torch.optim.SGD(quantizer.parameters(), lr=0.5)
    for _ in range(30):
        optimiser.zero_grad()
        quantizer(torch.rand(1, 2, 4, 4)).loss.backward()
        optimiser.step()
    assert quantizer.embedding.weight[1].tolist() == [50.0, 50.0]
    assert quantizer.embedding.weight[0].detach() == pytest.approx([0.5, 0.5], abs=0.3)


def test_a_codebook_learned_by_gradient_finds_the_centres_of_the_data():
    torch.manual_seed(0)
    centres = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    quantizer = plain_with_codes([[-0.1, 0.3], [0.1, -0.3]])
    optimiser = torch.optim.SGD(quantizer.parameters(), lr=0.2)
    for _ in range(200):
        optimiser.zero_grad()
        quantizer(as_map(centres[torch.randint(2, (64,))] + 0.05 * torch.randn(64, 2))).loss.backward()
        optimiser.step()
    assert (quantizer.embedding.weight - centres).abs().max() < 0.05


def test_evaluation_changes_nothing():
    quantizer = MovingAverageQuantizer(8, 3)
    quantizer(torch.randn(2, 3, 4, 4))
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer.eval()(torch.randn(2, 3, 4, 4))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_training_resumed_from_a_state_is_training_uninterrupted():
    def steps(quantizer: VectorQuantizer, number: int) -> torch.Tensor:
        return torch.stack([quantizer(torch.randn(2, 3, 2, 2)).loss for _ in range(number)])

    torch.manual_seed(3)
    whole = steps(MovingAverageQuantizer(16, 3, restart_below=0.5), 12)
    torch.manual_seed(3)
    first = MovingAverageQuantizer(16, 3, restart_below=0.5)
    steps(first, 5)
    generator = torch.get_rng_state()
    second = MovingAverageQuantizer(16, 3, restart_below=0.5)
    second.load_state_dict(first.state_dict())
    torch.set_rng_state(generator)
    assert torch.equal(steps(second, 7), whole[5:])


def test_usage_counts_codes_and_their_evenness():
    even, one = codebook_usage(torch.ones(8)), codebook_usage(torch.tensor([5.0, 0.0, 0.0, 0.0]))
    assert even.share == 1.0
    assert even.perplexity == pytest.approx(8)
    assert one.share == 0.25
    assert one.perplexity == pytest.approx(1)
    assert codebook_usage(torch.tensor([100.0, 1.0]), above=0.1).share == 0.5
    assert codebook_usage(torch.zeros(4)).share == 0.0
    assert math.isfinite(codebook_usage(torch.zeros(4)).perplexity)


@pytest.mark.parametrize("made", [plain_with_codes, with_codes])
def test_a_prepared_codebook_quantises_in_float32_under_autocast(made: Callable[[list], VectorQuantizer]):
    torch.manual_seed(0)
    quantizer = made((100 + torch.randn(256, 8)).tolist()).eval()  # bfloat16 cannot tell these apart
    prepare_codebook(quantizer)
    z_e = 100 + torch.randn(2, 8, 8, 8)
    expected = quantizer(z_e)
    with torch.autocast("cpu", torch.bfloat16):
        quantized = quantizer(z_e)
    assert torch.equal(quantized.indices, expected.indices)
    assert quantized.z_q.dtype == quantized.loss.dtype == torch.float32


def test_a_prepared_codebook_learns_from_bfloat16_under_autocast():
    torch.manual_seed(0)
    quantizer, other = MovingAverageQuantizer(8, 3), MovingAverageQuantizer(8, 3)
    prepare_codebook(quantizer)
    batches = [torch.randn(2, 3, 4, 4).bfloat16() for _ in range(3)]
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        losses = [quantizer(z_e).loss for z_e in batches]
    torch.manual_seed(1)
    assert [other(z_e.float()).loss for z_e in batches] == losses
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in quantizer.state_dict().items())


@pytest.mark.parametrize("kind", [VectorQuantizer, MovingAverageQuantizer])
def test_preparing_a_model_changes_neither_its_state_nor_its_results(kind: type[VectorQuantizer]):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), kind(8, 4))
    prepared = copy.deepcopy(model)
    prepare_codebook(prepared)
    assert isinstance(prepared[1], kind)
    z_e = torch.randn(2, 3, 4, 4)
    torch.manual_seed(1)
    expected = model(z_e)
    torch.manual_seed(1)
    assert all(torch.equal(one, other) for one, other in zip(prepared(z_e), expected, strict=True))
    assert list(prepared.state_dict()) == list(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in prepared.state_dict().items())


def test_the_memory_format_changes_nothing():
    quantizer = with_codes(torch.randn(9, 4).tolist()).eval()
    z_e = torch.randn(2, 4, 3, 5)
    last = quantizer(z_e.contiguous(memory_format=torch.channels_last))
    assert torch.equal(last.z_q, quantizer(z_e).z_q)


def test_the_state_is_that_of_the_shipped_weights():
    shapes = {name: tuple(value.shape) for name, value in MovingAverageQuantizer(8, 3).state_dict().items()}
    assert shapes == {"embedding.weight": (8, 3), "counts": (8,), "sums": (8, 3)}
    assert list(VectorQuantizer(8, 3).state_dict()) == ["embedding.weight"]


def test_codes_without_statistics_are_completed_and_statistics_are_kept():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), MovingAverageQuantizer(8, 4), VectorQuantizer(8, 4))
    assert moving_average_keys(model) == {"1.counts", "1.sums"}
    codes = torch.randn(8, 4)
    completed = with_moving_averages(model, {"1.embedding.weight": codes.half(), "2.embedding.weight": codes})
    assert completed.keys() == {"1.embedding.weight", "1.counts", "1.sums", "2.embedding.weight"}
    assert torch.equal(completed["1.counts"], torch.ones(8))
    assert torch.equal(completed["1.sums"], codes.half().float())
    state = model.state_dict()
    assert with_moving_averages(model, state) == state
    assert with_moving_averages(model, {}) == {}


def test_an_empty_state_is_refused():
    quantizer = MovingAverageQuantizer(4, 2)
    with pytest.raises(RuntimeError, match="Missing key"):
        quantizer.load_state_dict(with_moving_averages(quantizer, {}))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"codes": 0, "width": 4}, "at least one code"),
        ({"codes": 4, "width": 4, "decay": 1.0}, "decay is 1.0"),
        ({"codes": 4, "width": 4, "beta": -1.0}, "beta is -1.0"),
        ({"codes": 4, "width": 4, "restart_below": 1.5}, "restart_below is 1.5"),
    ],
)
def test_impossible_codebooks_are_refused(arguments: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        check_codebook(**arguments)


@pytest.mark.parametrize("kind", [VectorQuantizer, MovingAverageQuantizer])
@pytest.mark.parametrize("shape", [(2, 4), (2, 5, 3, 3)])
def test_maps_of_another_shape_are_refused(shape: tuple[int, ...], kind: type[VectorQuantizer]):
    with pytest.raises(ValueError, match=r"\(n, 4, h, w\), but got"):
        kind(8, 4)(torch.zeros(shape))


def test_the_vq_vae_turns_pictures_into_a_grid_of_codes_and_back():
    torch.manual_seed(0)
    model = VQVAE(VQVAEConfig(size=16, width=4, levels=2, codes=9, code_width=5)).eval()
    pictures = torch.rand(3, 3, 16, 16)
    reconstructions, quantized = model(pictures)
    assert quantized.z_q.shape == (3, 5, 4, 4)
    assert quantized.indices.shape == (3, 4, 4)
    assert reconstructions.shape == pictures.shape
    assert 0 < reconstructions.min() < reconstructions.max() < 1
    assert torch.equal(model.decode_codes(quantized.indices), reconstructions)
    words = {tuple(code) for code in model.quantize.embedding.weight.tolist()}
    assert {tuple(vector) for vector in quantized.z_q.permute(0, 2, 3, 1).flatten(0, 2).tolist()} <= words


def test_the_default_vq_vae_writes_sprites_in_sixty_four_words():
    model = VQVAE(VQVAEConfig()).eval()
    indices = model.encode(torch.rand(2, 3, 32, 32)).indices
    assert indices.shape == (2, 8, 8)
    assert model.quantize.codes == 64
    assert sum(weights.numel() for weights in model.parameters()) < 200_000


def test_the_vq_vae_learns_sixteen_sprites_by_heart():
    torch.manual_seed(0)
    pictures, _ = sprites(16, seed=0, subjects=("strawberry", "car", "house", "cat"), colours=("red",))
    model = VQVAE(VQVAEConfig(width=16))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(100):
        reconstructions, quantized = model(pictures)
        optimiser.zero_grad()
        ((pictures - reconstructions).square().mean() + 0.1 * quantized.loss).backward()
        optimiser.step()
    error = (pictures - model(pictures)[0]).square().mean()
    assert error < pictures.var(0).mean() / 4
    assert model.quantize.usage().share > 0.9


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [({"codes": 0}, "codes=0.* below 1"), ({"code_width": -1}, "code_width=-1"), ({"size": 30}, "cannot be halved 2")],
)
def test_impossible_vq_vaes_are_refused(arguments: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        check_sizes(VQVAEConfig(**arguments))


def train_a_share(rank: int, folder: Path) -> None:
    """One of two processes: trains on its half of every batch, from a generator of its own."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(rank)
    quantizer = MovingAverageQuantizer(8, 3, decay=0.8, restart_below=0.5)
    prepare_codebook(quantizer)
    for halves in torch.load(folder / "batches.pt"):
        quantizer(halves[rank])
    torch.save(quantizer.state_dict(), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_keep_one_codebook_that_saw_both_halves(tmp_path: Path):
    torch.save([torch.randn(2, 2, 3, 3, 3) for _ in range(6)], tmp_path / "batches.pt")
    other = multiprocessing.get_context("spawn").Process(target=train_a_share, args=(1, tmp_path))
    other.start()
    train_a_share(0, tmp_path)
    other.join()
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["counts"].sum() > 0.5 * 2 * 18  # both halves are counted: 36 vectors in a step, not 18
