"""The critic: what the towers see, what the loss says, and that pairs find each other."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from atelier.blocks.clip import CLIP, CLIPConfig, contrastive_loss
from atelier.weights.sizes import check_sizes
from torch import Tensor

CONFIG = CLIPConfig(
    embed_dim=12,
    image_size=16,
    patch_size=8,
    vision_width=24,
    vision_layers=2,
    vision_heads=3,
    vocabulary=30,
    context_length=7,
    text_width=16,
    text_layers=2,
    text_heads=2,
    end_token=2,
)


def random_clip(config: CLIPConfig) -> CLIP:
    """A CLIP in which no parameter is at its special first value."""
    torch.manual_seed(0)
    clip = CLIP(config).eval()
    for name, parameter in clip.named_parameters():
        if name != "logit_scale":
            torch.nn.init.normal_(parameter, std=0.3)
    return clip


def pictures(rows: int = 3) -> Tensor:
    return torch.rand(rows, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def captions() -> Tensor:
    return torch.tensor([[0, 9, 29, 2, 1, 1, 1], [0, 8, 7, 6, 5, 28, 2], [0, 2, 1, 1, 1, 1, 1]])


def test_both_towers_give_vectors_of_length_1():
    clip = random_clip(CONFIG)
    for vectors in (clip.encode_image(pictures()), clip.encode_text(captions())):
        assert vectors.shape == (3, 12)
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))


def test_logits_are_cosines_over_the_temperature():
    clip = random_clip(CONFIG)
    expected = clip.encode_image(pictures(2)) @ clip.encode_text(captions()).T / 0.07
    logits = clip(pictures(2), captions())
    assert logits.shape == (2, 3)
    torch.testing.assert_close(logits, expected)


def test_pixels_are_normalised_inside():
    clip = random_clip(CONFIG)
    plain = random_clip(replace(CONFIG, pixel_mean=(0.0, 0.0, 0.0), pixel_std=(1.0, 1.0, 1.0)))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CONFIG.pixel_mean, CONFIG.pixel_std))
    torch.testing.assert_close(clip.encode_image(pictures()), plain.encode_image((pictures() - mean) / std))


def test_every_patch_has_influence():
    clip = random_clip(CONFIG)
    before = clip.encode_image(pictures(1))
    for row in (0, 8):
        for column in (0, 8):
            changed = pictures(1)
            changed[..., row : row + 8, column : column + 8] = 0
            assert not torch.allclose(before, clip.encode_image(changed), atol=1e-4)


def test_what_follows_the_end_has_no_influence_and_what_precedes_it_has():
    clip = random_clip(CONFIG)
    ids = captions()[:1]
    before = clip.encode_text(ids)
    torch.testing.assert_close(clip.encode_text(ids[:, :4]), before)
    torch.testing.assert_close(clip.encode_text(torch.tensor([[0, 9, 29, 2, 17, 2, 5]])), before)
    for place in (0, 1, 2):
        changed = ids.clone()
        changed[0, place] = 20
        assert not torch.allclose(clip.encode_text(changed), before, atol=1e-4)


def test_the_end_is_found_by_its_id_or_as_the_largest():
    assert random_clip(CONFIG).end_position(captions()).tolist() == [3, 6, 1]
    assert random_clip(replace(CONFIG, end_token=None)).end_position(captions()).tolist() == [2, 5, 1]


def test_a_caption_without_end_is_refused():
    with pytest.raises(ValueError, match="no end token 2"):
        random_clip(CONFIG).encode_text(torch.tensor([[0, 9, 2], [0, 9, 8]]))


def test_quick_gelu_is_another_function():
    plain, quick = (random_clip(replace(CONFIG, quick_gelu=quick)) for quick in (False, True))
    assert not torch.allclose(plain.encode_image(pictures()), quick.encode_image(pictures()), atol=1e-4)
    assert not torch.allclose(plain.encode_text(captions()), quick.encode_text(captions()), atol=1e-4)


def test_the_loss_of_the_clueless_is_ln_n_and_of_the_sure_0():
    same = F.normalize(torch.ones(8, 5), dim=-1)
    assert contrastive_loss(same, same, 50.0).item() == pytest.approx(math.log(8), abs=1e-5)
    apart = torch.eye(8)
    assert contrastive_loss(apart, apart, 100.0).item() == pytest.approx(0, abs=1e-6)
    assert contrastive_loss(apart, apart.roll(1, 0), 100.0).item() == pytest.approx(100, abs=1e-3)


def test_the_loss_is_the_mean_of_both_directions():
    image, text = (F.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(i)), dim=-1) for i in (0, 1))
    logits = 7.0 * image @ text.T
    rows = -logits.log_softmax(dim=1).diagonal().mean()
    columns = -logits.log_softmax(dim=0).diagonal().mean()
    assert not torch.isclose(rows, columns)
    torch.testing.assert_close(contrastive_loss(image, text, 7.0), (rows + columns) / 2)
    torch.testing.assert_close(contrastive_loss(text, image, 7.0), contrastive_loss(image, text, 7.0))


def test_the_gradient_reaches_every_parameter():
    clip = random_clip(CONFIG)
    image, text = clip.encode_image(pictures()), clip.encode_text(captions())
    contrastive_loss(image, text, clip.logit_scale.exp()).backward()
    without = [
        name for name, parameter in clip.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


def test_mixed_precision_gives_nearly_the_same_gradient():
    gradients = []
    for mixed in (False, True):
        clip = random_clip(CONFIG)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            image, text = clip.encode_image(pictures()), clip.encode_text(captions())
        contrastive_loss(image.float(), text.float(), clip.logit_scale.exp()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in clip.parameters() if p.grad is not None]))
    assert F.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.99


def test_pairs_learn_to_find_each_other():
    """Twelve flat colours and their names: after a minute's lesson each is found among all."""
    torch.manual_seed(0)
    clip = CLIP(CONFIG)
    colours = torch.rand(12, 3, 1, 1)
    ids = torch.stack([torch.tensor([0, 5 + i, 2]) for i in range(12)])

    def paint() -> Tensor:
        return (colours + 0.02 * torch.randn(12, 3, 16, 16)).clamp(0, 1)

    optimiser = torch.optim.AdamW(clip.parameters(), lr=3e-3)
    for _ in range(120):
        loss = contrastive_loss(clip.encode_image(paint()), clip.encode_text(ids), clip.logit_scale.exp())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.equal(clip(paint(), ids).argmax(dim=1), torch.arange(12))


def test_loading_needs_no_weights_before():
    clip = random_clip(CONFIG)
    with torch.device("meta"):
        other = CLIP(CONFIG)
    other.load_state_dict(clip.state_dict(), assign=True)
    torch.testing.assert_close(other(pictures(), captions()), clip(pictures(), captions()))


def test_the_published_size():
    with torch.device("meta"):
        clip = CLIP(CLIPConfig.vit_b_32())
    assert sum(parameter.numel() for parameter in clip.parameters()) == 151_277_313


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 5}, "16 pixels cannot be cut into patches of 5"),
        ({"text_width": 15}, "width 15 cannot be split into 2 heads"),
        ({"vision_layers": 0}, "vision_layers is 0"),
        ({"end_token": 30}, "end_token 30"),
        ({"mlp_ratio": 0.0}, "mlp_ratio is 0.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        check_sizes(replace(CONFIG, **change))


def test_inputs_of_a_wrong_shape_are_refused():
    clip = random_clip(CONFIG)
    with pytest.raises(ValueError, match=r"this model takes \(n, 3, 16, 16\)"):
        clip.encode_image(torch.rand(2, 3, 16, 17))
    with pytest.raises(ValueError, match=r"ids have shape \(1, 8\)"):
        clip.encode_text(torch.full((1, 8), 2))
    with pytest.raises(ValueError, match="give pairs"):
        contrastive_loss(torch.eye(3), torch.eye(4), 1.0)
