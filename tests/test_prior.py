"""The prior over codes: no cell looks ahead, it learns which codes follow each other, and samples what it learned."""

import math

import pytest
import torch
from atelier.blocks.prior import CodePrior, PriorConfig, prior_loss

SMALL = PriorConfig(codes=5, side=3, width=16, heads=2, layers=1)


@pytest.fixture
def prior() -> CodePrior:
    torch.manual_seed(0)
    return CodePrior(SMALL).eval()


@pytest.mark.parametrize("cell", [0, 4, 8])
def test_the_logits_of_a_cell_depend_on_the_codes_before_it_only(prior, cell):
    codes = torch.randint(5, (2, 9))
    changed = codes.clone()
    changed[:, cell] = (changed[:, cell] + 1) % 5
    differ = (prior(codes) - prior(changed)).abs().amax((0, 2)) > 1e-6  # (9,)
    assert differ.tolist() == [place > cell for place in range(9)]


def test_the_first_codes_of_a_grid_have_the_same_logits_as_in_the_whole_grid(prior):
    codes = torch.randint(5, (2, 9))
    torch.testing.assert_close(prior(codes[:, :4]), prior(codes)[:, :4])


def test_the_loss_is_the_mean_of_minus_log_p(prior):
    grids = torch.randint(5, (4, 3, 3))
    chosen = prior(grids.flatten(1)).log_softmax(2).gather(2, grids.flatten(1)[..., None])
    torch.testing.assert_close(prior_loss(prior, grids), -chosen.mean())


def test_samples_follow_the_rule_that_was_learned():
    """In each grid all codes are equal: the first is worth log 5 nats, the others nothing."""
    torch.manual_seed(0)
    prior = CodePrior(SMALL)
    adam = torch.optim.Adam(prior.parameters(), 1e-2)
    for _ in range(150):
        grids = torch.randint(5, (32, 1, 1)).expand(-1, 3, 3)
        adam.zero_grad()
        loss = prior_loss(prior, grids)
        loss.backward()
        adam.step()
    assert loss.item() == pytest.approx(math.log(5) / 9, abs=0.03)
    samples = prior.eval().sample(64)
    assert samples.shape == (64, 3, 3)
    assert (samples == samples[:, :1, :1]).all((1, 2)).float().mean() > 0.95
    assert len(samples[:, 0, 0].unique()) == 5
