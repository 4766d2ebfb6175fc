"""The painted world: vocabulary, sampling, held-out combinations, captions, painter, sprites."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from atelier.world import (
    HELD_OUT,
    SPRITE_COLOURS,
    SPRITE_WORDINGS,
    SPRITES,
    Scene,
    World,
    caption,
    full_world,
    is_held_out,
    paint,
    paint_sprites,
    parse,
    small_world,
    sprite_caption,
    sprite_scene,
    sprite_scenes,
    sprites,
    studio_world,
    vocabulary,
)
from atelier.world.painter import uniform
from torch.utils._python_dispatch import TorchDispatchMode

SESSION_PROMPTS = {
    "the Eiffel tower landing on the moon": {"subject": "Eiffel tower", "setting": "moon", "pose": "landing"},
    "sunset over a lake in the mountains": {"subject": None, "setting": "lake", "time": "sunset"},
    "a stained glass window with an image of a blue strawberry": {
        "subject": "strawberry",
        "colour": "blue",
        "style": "stained glass",
    },
    "a photo of the food of china": {"subject": "food of china", "style": "photo"},
}
WORLDS = [small_world(), studio_world(), full_world()]


def test_full_world_has_the_promised_size() -> None:
    world = full_world()
    assert len(world.subjects) >= 30
    assert len(world.settings) >= 16
    assert len(world.colours) == 12
    assert len(world.styles) >= 6
    assert world.pairs > 0
    for attribute, names in small_world().attributes.items():
        assert set(names) < set(world.attributes[attribute])


def test_studio_world_has_the_promised_size() -> None:
    world = studio_world()
    assert len(world.subjects) >= 20
    assert len(world.settings) >= 12
    assert len(world.colours) >= 10
    assert len(world.styles) >= 5
    for attribute, names in world.attributes.items():
        assert set(small_world().attributes[attribute]) < set(names) < set(full_world().attributes[attribute])


def test_held_out_list_covers_every_kind_in_every_world() -> None:
    for world, total in ((small_world(), 8), (studio_world(), 12), (full_world(), 12)):
        inside = [
            (s, attribute, value)
            for s, attribute, value in HELD_OUT
            if s in world.subjects and value in world.attributes[attribute]
        ]
        assert len(inside) >= total
        for kind in ("setting", "colour", "style"):
            assert sum(attribute == kind for _, attribute, _ in inside) >= 2
    assert len(inside) == len(HELD_OUT), "a combination of the list is not in the world at all"


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_half_a_million_scenes_have_no_held_out_combination(world: World) -> None:
    """One and a half million in all three worlds. The test compares the scenes' fields, not what `is_held_out` says."""
    forbidden = set(HELD_OUT)
    seen = set()
    for scene in world.sample(500_000, seed=1):
        things = [(scene.subject, scene.colour)] + ([scene.second] if scene.second else [])
        for subject, colour in things:
            seen |= {(subject, "setting", scene.setting), (subject, "colour", colour), (subject, "style", scene.style)}
    assert not seen & forbidden
    possible = {
        (s, attribute, value)
        for attribute in ("setting", "colour", "style")
        for s, value in itertools.product(world.subjects, world.attributes[attribute])
    }
    assert possible - forbidden <= seen, "sampling misses combinations that are allowed"


def test_held_out_scenes_are_sampled_alone_or_among_others() -> None:
    only = small_world().sample(300, seed=2, held_out="only")
    assert all(map(is_held_out, only))
    share = sum(map(is_held_out, small_world().sample(5000, seed=2, held_out="allowed"))) / 5000
    assert 0.02 < share < 0.3


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_held_out_combinations_come_equally_often(world: World) -> None:
    scenes = world.sample(180, seed=3, held_out="only", complete=True)
    shown = [
        (s, a, v) for scene in scenes for s, a, v in HELD_OUT
        if s == scene.subject and v == getattr(scene, a)
    ]  # fmt: skip
    inside = {(s, a, v) for s, a, v in HELD_OUT if s in world.subjects and v in world.attributes[a]}
    assert set(shown) == inside
    assert all(shown.count(combination) >= 180 // len(inside) for combination in inside)


def test_sampling_held_out_scenes_of_a_world_without_any_is_an_error() -> None:
    world = replace(small_world(), subjects=("sailing boat", "house"), settings=("moon", "beach"))
    with pytest.raises(ValueError, match="none of the held-out combinations"):
        world.sample(1, seed=0, held_out="only")


@pytest.mark.parametrize(("field", "name", "near"), [("colour", "crimson", "brown"), ("subject", "kat", "cat")])
def test_the_error_for_an_unknown_name_has_the_nearest_known_one(field: str, name: str, near: str) -> None:
    scene = replace(Scene("cat", "red", "moon", "day", "photo"), **{field: name})
    with pytest.raises(ValueError, match=f"no {field} '{name}'.*'{near}'"):
        paint([scene])


def test_random_numbers_stay_below_one() -> None:
    """The first seed's hash begins with 24 ones, which rounds to 1 in float32 and would index past the last pattern."""
    seeds = [1722016968, *range(200_000)]
    numbers = uniform(seeds, 16, torch.device("cpu"))
    assert numbers.max() < 1
    assert numbers.min() >= 0
    assert abs(numbers.mean() - 0.5) < 0.001
    assert paint([Scene("cat", "red", "beach", "day", "stained glass", seed=seeds[0])]).isfinite().all()


def test_a_second_subject_can_make_a_scene_held_out() -> None:
    scene = Scene("cat", "red", "moon", "day", "photo", second=("Eiffel tower", "brown"))
    assert is_held_out(scene)
    assert not is_held_out(Scene("cat", "red", "moon", "day", "photo", second=("house", "brown")))


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_sampling_is_a_function_of_the_seed(world: World) -> None:
    assert world.sample(50, seed=3) == world.sample(50, seed=3)
    assert world.sample(50, seed=3) != world.sample(50, seed=4)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_complete_scenes_state_all_four_attributes(world: World) -> None:
    for scene in world.sample(500, seed=5, complete=True):
        read = parse(caption(scene, complete=True))
        assert (read.subject, read.setting, read.style) == (scene.subject, scene.setting, scene.style)
        assert read.colour == scene.colour
        assert all(label >= 0 for label in world.labels(scene).values())


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_every_caption_parses_to_a_scene_that_agrees(world: World) -> None:
    for scene in world.sample(2000, seed=6):
        text = caption(scene)
        if text.endswith("nothing at all"):
            continue
        read = parse(text)
        assert read.subject == scene.subject, text
        assert read.setting in (scene.setting, None), text
        assert (read.second or (None,))[0] == (scene.second or (None,))[0], text
        if scene.second:
            assert read.second == scene.second, text
            assert read.relation == scene.relation, text


def test_captions_vary_and_have_good_articles() -> None:
    texts = [caption(scene) for scene in full_world().sample(4000, seed=7)]
    assert len(set(texts)) > 3500
    for text in texts:
        words = text.split()
        for article, word in itertools.pairwise(words):
            if article in ("a", "an"):
                assert (article == "an") == (word[0] in "aeiou"), text


@pytest.mark.parametrize(("prompt", "expected"), SESSION_PROMPTS.items())
def test_the_sessions_prompts_parse_and_are_painted(prompt: str, expected: dict) -> None:
    scene = parse(prompt)
    assert {name: getattr(scene, name) for name in expected} == expected
    world = small_world()
    assert scene.subject is None or scene.subject in world.subjects
    assert scene.setting is None or scene.setting in world.settings
    picture = paint([scene], 64)[0]
    assert picture.std() > 0.1


@pytest.mark.parametrize(
    ("text", "named"), [("a giraffe on the moon", "giraffe"), ("on the left", "neither"), ("", "neither")]
)
def test_the_error_of_parse_says_what_is_wrong(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse(text)


def test_words_of_captions_are_in_the_vocabulary() -> None:
    for world in WORLDS:
        known = " ".join(itertools.chain(*vocabulary(world).values())).lower().replace("…", " ")
        words = {word for scene in world.sample(1000, seed=8) for word in caption(scene).lower().split()}
        assert words - set(known.split()) <= {"a", "an"}


def test_a_picture_does_not_depend_on_its_batch() -> None:
    scenes = full_world().sample(60, seed=9)
    together = paint(scenes, 64)
    for index in (0, 17, 59):
        assert torch.equal(paint([scenes[index]], 64)[0], together[index])
    assert torch.equal(paint(scenes[::-1], 64).flip(0), together)


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_a_scene_is_the_same_picture_at_every_resolution(size: int) -> None:
    scenes = full_world().sample(40, seed=10)
    pictures = paint(scenes, size)
    assert pictures.shape == (40, 3, size, size)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    coarse = torch.nn.functional.interpolate(pictures, (32, 32), mode="area")
    error = (coarse - paint(scenes, 32)).square().mean((1, 2, 3)).sqrt()
    assert error.max() < 0.10
    assert error.mean() < 0.05


def test_scenes_that_differ_give_pictures_that_differ() -> None:
    base = Scene("cat", "red", "beach", "day", "photo", seed=1)
    changes: list[dict[str, Any]] = [
        {"subject": "car"}, {"colour": "blue"}, {"setting": "moon"}, {"time": "night"}, {"style": "cartoon"},
        {"pose": "landing"}, {"place": "left"}, {"size": "small"}, {"second": ("house", "blue")}, {"seed": 2},
    ]  # fmt: skip
    pictures = paint([base, *(replace(base, **change) for change in changes)], 64)
    for picture, change in zip(pictures[1:], changes, strict=True):
        assert (picture - pictures[0]).abs().max() > 0.2, change


def test_every_subject_setting_and_style_can_be_seen() -> None:
    world = full_world()
    empty = paint([Scene(None, "white", None, "day", "photo", seed=3)], 64)
    things = paint([Scene(name, "red", None, "day", "photo", seed=3) for name in world.subjects], 64)
    covered = ((things - empty).abs().amax(1) > 0.1).float().mean((1, 2))
    assert covered.min() > 0.03
    places = paint([Scene(None, "white", name, "day", "photo", seed=3) for name in world.settings], 64)
    styles = paint([Scene("cat", "red", "beach", "day", name, seed=3) for name in world.styles], 64)
    for group in (things, places, styles):
        distance = torch.cdist(group.flatten(1), group.flatten(1)) + 1e6 * torch.eye(len(group))
        assert distance.min() > 5


def test_sprites_are_large_and_their_kinds_take_turns() -> None:
    pictures, kinds = sprites(60, seed=0)
    assert pictures.shape == (60, 3, 32, 32)
    assert kinds.bincount().tolist() == [10] * 6
    corner = pictures[:, :, 0, 0]
    assert (corner - corner[0]).abs().max() < 1e-6
    covered = ((pictures - corner[..., None, None]).abs().amax(1) > 0.1).float().mean((1, 2))
    assert covered.min() > 0.25
    assert torch.equal(pictures, sprites(60, seed=0)[0])
    assert not torch.equal(pictures, sprites(60, seed=1)[0])


def test_scenes_of_sprites_are_those_that_are_painted_and_lack_what_is_left_out() -> None:
    scenes = sprite_scenes(60, seed=0)
    assert torch.equal(paint_sprites(scenes), sprites(60, seed=0)[0])
    left_out = {("car", "red"), ("star", "blue"), ("star", "green")}
    shown = {(str(scene.subject), scene.colour) for scene in sprite_scenes(2000, seed=3, left_out=left_out)}
    never = {(subject, value) for subject, attribute, value in HELD_OUT if attribute == "colour"}
    assert shown == set(itertools.product(SPRITES, SPRITE_COLOURS)) - left_out - never
    with pytest.raises(ValueError, match="left_out leaves no colour for the subject 'car'"):
        sprite_scenes(2, seed=0, subjects=("car",), colours=("red",), left_out=left_out)


def test_captions_of_sprites_name_subject_and_colour_in_several_wordings() -> None:
    assert sprite_caption(sprite_scene("mushroom", "orange")) == "an orange mushroom"
    assert sprite_caption(sprite_scene("cat", "red"), len(SPRITE_WORDINGS) - 1) == "a cat in red"
    for subject, colour in itertools.product(SPRITES, SPRITE_COLOURS):
        said = [sprite_caption(sprite_scene(subject, colour), wording) for wording in range(len(SPRITE_WORDINGS))]
        assert len(set(said)) == len(SPRITE_WORDINGS)
        for words in said:
            assert {subject, colour} <= set(words.split())
            assert len({*SPRITES, *SPRITE_COLOURS} & set(words.split())) == 2
    with pytest.raises(ValueError, match="no subject"):
        sprite_caption(Scene(None, "red", "moon", "day", "photo"))


@pytest.mark.hardware
def test_the_painter_runs_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU")
    scenes = full_world().sample(100, seed=11)
    assert (paint(scenes, 64, "cuda").cpu() - paint(scenes, 64)).abs().max() < 0.02


class CountWaits(TorchDispatchMode):
    """Counts operations for which the CPU has to wait for the device: reading numbers back, shapes that depend on them.

    Attributes:
        count: of these operations so far.
    """

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func._schema.name in {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero"}
        return func(*args, **(kwargs or {}))


def test_painting_never_waits_for_the_device_and_makes_constants_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = full_world().sample(200, seed=11)
    first = paint(scenes, 16)
    made = []
    original = torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda *given, **named: made.append(given) or original(*given, **named))
    with CountWaits() as waits:
        assert torch.equal(paint(scenes, 16), first)
    assert waits.count == 0
    kinds = {(s.style, s.setting) for s in scenes} | {(s.style, name) for s in scenes for name in (s.subject, s.second)}
    assert len(made) <= 5 * len(kinds) + 12  # a few lists for each group, and no colours
