"""The small models of part 2: their training, their folder, and the ones that are shipped."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
import torch
from atelier.blocks.autoencoder import Autoencoder, AutoencoderConfig
from atelier.blocks.classifier import ClassifierConfig, PictureClassifier
from atelier.blocks.gan import GANConfig
from atelier.blocks.vae import VAE
from atelier.blocks.vq import VQVAE, VQVAEConfig
from atelier.blocks.vqgan import VQGANConfig
from atelier.cli import app
from atelier.evaluation.sprites import (
    TABLES,
    card_text,
    correct_sprites,
    fine_energy,
    frechet_distance,
    measure,
    predicted_colours,
    predicted_kinds,
    record_measurements,
    share_recognised,
)
from atelier.training.data import Batch
from atelier.training.loop import Outcome, train
from atelier.training.recipe import Recipe, TrainingError
from atelier.training.recipes.autoencoder import (
    AutoencoderRecipe,
    AutoencoderSettings,
    AutoencoderWithLoss,
    VAESettings,
    VAEWithLoss,
    VQVAEWithLoss,
    psnr,
)
from atelier.training.recipes.classifier import ClassifierSettings
from atelier.training.recipes.gan import GANRecipe, GANSettings
from atelier.training.recipes.sprite_judge import (
    SpriteJudgeRecipe,
    blank,
    blended,
    blurred,
    halved,
    negative_pictures,
    noise,
    partners_of_other_kinds,
)
from atelier.training.recipes.vqgan import VQGANSettings
from atelier.training.sprites import PLANS, Plan, SpriteBatches, SpriteRequest, train_sprites
from atelier.weights.sprites import (
    MODEL_CLASSES,
    SPRITE_MODELS,
    SpriteModel,
    SpriteModels,
    load_sprite_model,
    read_sprite_models,
    save_sprite_model,
    sprites_folder,
)
from atelier.weights.storage import PresetError
from atelier.world import SPRITE_COLOURS, SPRITES, paint_sprites, sprite_scene, sprites
from typer.testing import CliRunner

JUDGE = ClassifierConfig({"kind": (*SPRITES, "none")}, resolution=32, widths=(4, 8))
GRID = VQGANConfig(32, 4, (1, 1, 1), 1, (), 4, codes=8, code_width=4, group_norm_groups=2)
TINY = {
    "judge": (JUDGE, ClassifierSettings(batch_size=8)),
    "perceptual": (JUDGE, ClassifierSettings(batch_size=8)),
    "gan": (GANConfig(latent=4, width=4), GANSettings(batch_size=8)),
    "autoencoder": (AutoencoderConfig(width=4), AutoencoderSettings(batch_size=8)),
    "vae": (AutoencoderConfig(width=4), VAESettings(batch_size=8)),
    "vqvae": (VQVAEConfig(width=4, codes=8, code_width=4), AutoencoderSettings(batch_size=8)),
    "vqgan_without_adversary": (GRID, VQGANSettings(batch_size=4, discriminator_start=1.0)),
    "vqgan": (GRID, VQGANSettings(batch_size=4, discriminator_start=0.0, discriminator_width=4)),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans and measurements that take no time."""
    for name, (config, settings) in TINY.items():
        monkeypatch.setitem(PLANS, name, replace(PLANS[name], config=config, settings=settings, steps=2))
    monkeypatch.setattr("atelier.training.sprites.SPRITE_COUNT", 24)
    monkeypatch.setattr("atelier.evaluation.sprites.FRESH_SPRITES", 24)


def request(folder: Path, **changes: object) -> SpriteRequest:
    return replace(SpriteRequest(run_dir=folder / "run", out=folder / "out"), **changes)


# ---------------------------------------------------------------------------------------------- the command


@pytest.mark.usefixtures("tiny")
def test_all_models_are_trained_measured_and_written(tmp_path: Path) -> None:
    said = train_sprites(request(tmp_path), record_measurements)
    assert [sentence.split()[0] for sentence in said] == list(SPRITE_MODELS)
    assert all("finished at step 2" in sentence for sentence in said)
    kept = read_sprite_models(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert card == card_text(kept)
    for name in SPRITE_MODELS:
        module = load_sprite_model(name, tmp_path / "out")
        assert not module.training
        assert kept[name].config == TINY[name][0]
        assert kept[name].subjects == SPRITES
        assert kept[name].training["steps"] == 2
        assert kept[name].measured == measure(name, tmp_path / "out")
        assert f"| {name} |" in card
    assert load_sprite_model("gan", tmp_path / "out")(torch.randn(2, 4)).shape == (2, 3, 32, 32)


@pytest.mark.usefixtures("tiny")
def test_a_run_is_resumed_and_never_overwritten(tmp_path: Path) -> None:
    train_sprites(request(tmp_path, only="judge"))
    with pytest.raises(TrainingError, match="already holds a training run, at step 2"):
        train_sprites(request(tmp_path, only="judge"))
    (said,) = train_sprites(request(tmp_path, only="judge", steps=3, resume=True))
    assert "finished at step 3" in said
    assert read_sprite_models(tmp_path / "out")["judge"].training["steps"] == 3


@pytest.mark.usefixtures("tiny")
def test_what_a_model_needs_is_trained_before_it(tmp_path: Path) -> None:
    said = train_sprites(request(tmp_path, only="vqgan"))
    assert [sentence.split()[0] for sentence in said] == ["judge", "perceptual", "vqgan_without_adversary", "vqgan"]
    again = train_sprites(request(tmp_path, only="vae"))
    assert [sentence.split()[0] for sentence in again] == ["vae"]


@pytest.mark.usefixtures("tiny")
def test_the_vqgan_starts_from_the_one_without_adversary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_sprites(request(tmp_path, only="vqgan_without_adversary"))
    warm = load_sprite_model("vqgan_without_adversary", tmp_path / "out").state_dict()
    began = {}

    def look(recipe: Recipe, *rest: object, **more: object) -> Outcome:
        began.update({key: tensor.clone() for key, tensor in recipe.exported.state_dict().items()})
        return train(recipe, *rest, **more)  # ty: ignore[invalid-argument-type]

    monkeypatch.setattr("atelier.training.sprites.train", look)
    train_sprites(request(tmp_path, only="vqgan"))
    assert began.keys() == warm.keys()
    assert all(torch.equal(began[key], warm[key]) for key in warm)
    sharp = load_sprite_model("vqgan", tmp_path / "out").state_dict()
    assert not torch.equal(sharp["decoder.conv_out.weight"], warm["decoder.conv_out.weight"])


@pytest.mark.usefixtures("tiny")
def test_an_interruption_ends_the_run_with_a_preview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "atelier.training.sprites.train", lambda *these, **more: replace(train(*these, **more), finished=False)
    )
    (said,) = train_sprites(request(tmp_path))
    assert "stopped at step 2" in said
    assert "Continue with --resume" in said
    assert list(read_sprite_models(tmp_path / "out").models) == ["judge"]


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(TrainingError, match="no sprite model called 'dali'; choose one of judge, "):
        SpriteRequest(only="dali")


def test_every_model_has_a_plan_in_which_it_finds_what_it_needs() -> None:
    assert set(PLANS) == set(SPRITE_MODELS)
    for number, name in enumerate(SPRITE_MODELS):
        assert set(PLANS[name].needs) <= set(SPRITE_MODELS[:number])
        assert set(PLANS[name].subjects) <= set(SPRITES)


@pytest.mark.usefixtures("tiny")
def test_the_command_trains_sprites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", "sprites", "--only", "judge", "--steps", "1"])
    assert result.exit_code == 0, result.output
    assert "judge finished at step 1" in result.stdout
    assert isinstance(load_sprite_model("judge", tmp_path / "runs/sprites/models"), PictureClassifier)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sprites", "--only", "dali"], "no sprite model called 'dali'"),
        (["sprites", "--steps", "0"], "steps is 0"),
    ],
)
def test_the_command_refuses_what_means_nothing(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", *words])
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert not Path("runs").exists()


def test_nothing_is_lost_when_several_threads_write_at_once(tmp_path: Path) -> None:
    gate = Barrier(len(SPRITE_MODELS))

    def write(name: str) -> None:
        config, build = TINY[name][0], MODEL_CLASSES[name][1]
        module = build(config)
        gate.wait()
        for steps in range(5):
            model = SpriteModel(config, SPRITES, ("red",), training={"steps": steps})
            save_sprite_model(tmp_path, name, module, model)

    with ThreadPoolExecutor(len(SPRITE_MODELS)) as threads:
        list(threads.map(write, SPRITE_MODELS))
    kept = read_sprite_models(tmp_path)
    assert list(kept.models) == list(SPRITE_MODELS)
    for name in SPRITE_MODELS:
        assert kept[name].training == {"steps": 4}
        load_sprite_model(name, tmp_path)


# ---------------------------------------------------------------------------------------------- data and recipes


def test_batches_depend_on_the_seed_and_their_number_alone() -> None:
    plan = Plan(None, AutoencoderSettings(batch_size=6), 1, subjects=("cat", "star"), colours=("red",))
    first, second = SpriteBatches(plan, 3, painted=20), SpriteBatches(plan, 3, painted=20)
    assert torch.equal(first[7].pictures, second[7].pictures)
    assert not torch.equal(first[7].pictures, first[8].pictures)
    assert not torch.equal(first[7].pictures, SpriteBatches(plan, 4, painted=20)[7].pictures)
    assert first[7].pictures.shape == (6, 3, 32, 32)
    kinds = {caption for number in range(5) for caption in first[number].captions}
    assert kinds == {"cat", "star"}
    shown = sprites(20, 3, subjects=("cat", "star"), colours=("red",))[0]
    for picture, caption in zip(first[0].pictures, first[0].captions, strict=True):
        (place,) = (number for number in range(20) if torch.equal(shown[number], picture))
        assert caption == ("cat", "star")[place % 2]


def fed(recipe: Recipe, batch: Batch, steps: int) -> list[dict[str, float]]:
    """What a recipe reports of the first and of the last of some steps on one batch."""
    optimizers = {name: torch.optim.Adam(part.parameters(), 5e-3) for name, part in recipe.parts.items()}
    reports = []
    for step in range(steps):
        report = {}
        for turn in recipe.losses(recipe.parts, batch, step / steps):
            optimizers[turn.part].zero_grad()
            turn.loss.backward()
            optimizers[turn.part].step()
            report |= {key: value.item() for key, value in turn.metrics.items()}
        reports.append(report)
    return [reports[0], reports[-1]]


@pytest.fixture(scope="module")
def batch() -> Batch:
    pictures, kinds = sprites(24, seed=0)
    return Batch(pictures, [SPRITES[kind] for kind in kinds.tolist()])


@pytest.mark.parametrize(
    "learner",
    [
        lambda: AutoencoderWithLoss(Autoencoder(AutoencoderConfig(width=8))),
        lambda: VAEWithLoss(VAE(AutoencoderConfig(width=8)), beta=0.5),
        lambda: VQVAEWithLoss(VQVAE(VQVAEConfig(width=8, codes=16, code_width=4))),
    ],
)
def test_autoencoders_learn_to_give_back(learner: Callable, batch: Batch) -> None:
    recipe = AutoencoderRecipe("autoencoder", learner(), AutoencoderSettings())
    first, last = fed(recipe, batch, 40)
    assert last["loss"] < 0.7 * first["loss"]
    assert last["psnr"] > first["psnr"] + 3
    shown = recipe.sample(recipe.exported.eval(), batch)
    assert shown is not None
    assert shown.shape == (3, 64, 256)


def test_the_divergence_is_weighed_by_beta(batch: Batch) -> None:
    losses = []
    for beta in (0.0, 3.0):
        torch.manual_seed(0)
        learner = VAEWithLoss(VAE(AutoencoderConfig(width=4)), beta)
        loss, metrics = learner(batch.pictures)
        losses.append((loss.item(), metrics["kl"].item()))
    (without, kl), (with_it, same) = losses
    assert kl == same > 0
    assert with_it == pytest.approx(without + 3 * kl, rel=1e-5)
    with pytest.raises(ValueError, match=r"beta was -1\.0"):
        VAESettings(beta=-1.0)


def test_the_gan_plays_and_only_the_player_whose_turn_it_is_learns(batch: Batch) -> None:
    recipe = GANRecipe(GANConfig(latent=4, width=8), GANSettings())
    turns = recipe.losses(recipe.parts, batch, 0.0)
    first = next(turns)
    first.loss.backward()
    assert first.part == "generator"
    assert all(weight.grad is not None for weight in recipe.generator.parameters())
    assert all(weight.grad is None for weight in recipe.discriminator.parameters())
    recipe.generator.zero_grad(set_to_none=True)
    second = next(turns)
    second.loss.backward()
    assert second.part == "discriminator"
    assert all(weight.grad is None for weight in recipe.generator.parameters())
    assert all(weight.grad is not None for weight in recipe.discriminator.parameters())
    assert next(turns, None) is None
    first, last = fed(recipe, batch, 30)
    assert last["discriminator"] < first["discriminator"]
    assert 0.5 < last["told_apart"] <= 1
    shown = recipe.sample(recipe.exported.eval(), batch)
    assert shown is not None
    assert shown.shape == (3, 128, 256)


def test_the_discriminator_learns_at_a_pace_of_its_own() -> None:
    recipe = GANRecipe(GANConfig(latent=4, width=8), GANSettings(discriminator_pace=0.5))
    for part, pace in (("generator", 1.0), ("discriminator", 0.5)):
        optimizer = recipe.settings.optimizer(recipe.parts[part])
        for _ in range(2):  # as the loop does before every step
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            optimizer.step()
            assert {group["lr"] for group in optimizer.param_groups} == {0.01 * pace}
    with pytest.raises(ValueError, match=r"discriminator_pace was 0\.0; it must be above 0"):
        GANSettings(discriminator_pace=0.0)


def test_the_judge_sees_sprites_in_one_half_and_nothing_in_the_other(batch: Batch) -> None:
    recipe = SpriteJudgeRecipe("judge", JUDGE, ClassifierSettings(shift=0, soft_share=0.0, noise=0.0))
    seen = {}

    class Spy(torch.nn.Module):
        def forward(self, pictures: torch.Tensor, labels: dict[str, torch.Tensor]) -> tuple:
            seen.update(pictures=pictures, kinds=labels["kind"])
            return pictures.mean(), {}

    next(recipe.losses({"classifier": Spy()}, batch, 0.0))
    assert [JUDGE.attributes["kind"][kind] for kind in seen["kinds"][:12]] == batch.captions[:12]
    assert (seen["kinds"][12:] == len(SPRITES)).all()
    moved = (seen["pictures"] - batch.pictures).abs().mean((1, 2, 3))
    assert moved[:12].max() < 0.04 < moved[12:].min()
    first, last = fed(recipe, batch, 60)
    assert last["loss"] < 0.5 * first["loss"]


@pytest.mark.parametrize("classes", [{"kind": ("cat", "star")}, {"kind": ("cat", "none"), "colour": ("red", "blue")}])
def test_a_judge_without_a_class_none_is_refused(classes: dict) -> None:
    config = ClassifierConfig(classes, resolution=32, widths=(4,))
    with pytest.raises(ValueError, match="the one attribute 'kind', and its last class is 'none'"):
        SpriteJudgeRecipe("judge", config, ClassifierSettings())


def test_partners_are_of_another_kind() -> None:
    kinds = torch.tensor([0, 0, 1, 2, 2, 2])
    for _ in range(10):
        assert (kinds[partners_of_other_kinds(kinds)] != kinds).all()
    assert partners_of_other_kinds(torch.zeros(3, dtype=torch.long)).shape == (3,)


def test_nothing_is_made_of_blends_halves_blurs_blanks_and_noise() -> None:
    black, white = torch.zeros(400, 3, 32, 32), torch.ones(400, 3, 32, 32)
    mixed = blended(black, white)
    assert mixed.aminmax()[0] >= 0.3
    assert mixed.aminmax()[1] <= 0.7
    assert (mixed[:, :1, :1, :1] == mixed).all()
    halves = halved(black, white)
    assert (halves.mean((1, 2, 3)) == 0.5).all()
    upright = halves[:, 0, 0, 0] == halves[:, 0, -1, 0]
    assert 120 < upright.sum() < 280
    assert (halves[:, :, 0, 0] == 0).all()
    picture = torch.rand(400, 3, 32, 32)
    assert blurred(picture).std() < 0.3 * picture.std()
    assert (blank(picture).var((2, 3)) < 1e-10).all()
    assert noise(picture).shape == picture.shape
    every = negative_pictures(black, white)
    assert every.shape == black.shape
    gray = ((every == every[:, :1, :1, :1]).flatten(1).all(1)) & (every[:, 0, 0, 0] >= 0.3)
    assert 150 < gray.sum() < 250  # blends are one half of it


# ---------------------------------------------------------------------------------------------- measuring


def test_measurements_know_sharp_from_soft_and_near_from_far() -> None:
    pictures, _ = sprites(60, seed=5)
    assert fine_energy(blurred(pictures)) < 0.1 * fine_energy(pictures)
    assert psnr(0.9 * pictures, 0.9 * pictures + 0.1).mean().item() == pytest.approx(20, abs=1e-3)
    features = torch.randn(5000, 3, dtype=torch.double)
    assert frechet_distance(features, features) < 1e-9
    assert frechet_distance(features, features + 2) == pytest.approx(12, rel=1e-6)
    assert frechet_distance(features, 3 * features) == pytest.approx(4 * 3, rel=0.1)


# ---------------------------------------------------------------------------------------------- the folder


@pytest.fixture
def folder(tmp_path: Path, tiny: None) -> Path:
    train_sprites(request(tmp_path, only="judge", steps=1))
    return tmp_path / "out"


def test_a_folder_without_models_and_a_model_that_is_not_there_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"holds no sprite models: it has no models\.json"):
        load_sprite_model("judge", tmp_path)
    with pytest.raises(PresetError, match="no sprite model 'gan' yet; train it: atelier train sprites --only gan"):
        load_sprite_model("gan", folder)
    with pytest.raises(PresetError, match="There is no sprite model 'dali'; choose one of"):
        load_sprite_model("dali", folder)


def test_damaged_weights_are_refused(folder: Path) -> None:
    path = folder / "judge.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]):
        path.write_bytes(damaged)
        with pytest.raises(PresetError, match=r"judge\.safetensors was truncated or altered.*models\.json"):
            load_sprite_model("judge", folder)
    path.unlink()
    with pytest.raises(PresetError, match=r"judge\.safetensors is missing"):
        load_sprite_model("judge", folder)


def edited(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "models.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda values: values.pop("files"), "the file lacks files"),
        (lambda values: values.update(models=[]), r"models is \[\]; give an object"),
        (lambda values: values["models"].update(dali={}), "the unknown model 'dali'"),
        (lambda values: values["models"]["judge"].pop("subjects"), "judge lacks subjects"),
        (lambda values: values["models"]["judge"]["config"].update(x=1), r"judge\.config has the unknown key 'x'"),
        (lambda values: values["models"]["judge"]["config"].update(widths=[6, 8]), "asks for"),
        (
            lambda values: values["models"].update(gan=values["models"]["judge"] | {"config": {"latent": 0}}),
            "latent is 0",
        ),
        (lambda values: values["files"].clear(), r"has no judge\.safetensors"),
    ],
)
def test_a_damaged_record_is_refused(folder: Path, change: Callable[[dict], object], sentence: str) -> None:
    edited(folder, change)
    with pytest.raises(PresetError, match=sentence):
        load_sprite_model("judge", folder)


def test_a_record_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "models.json").write_text("{")
    with pytest.raises(PresetError, match="not valid JSON"):
        read_sprite_models(folder)


def test_the_models_are_found_where_presets_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = sprites_folder()
    folder.rename(folder.parent / "sprites")
    monkeypatch.setenv("ATELIER_DATA", str(folder.parent))
    assert sprites_folder() == folder.parent / "sprites"
    assert load_sprite_model("judge").config == JUDGE
    monkeypatch.setenv("ATELIER_DATA", str(folder.parent / "elsewhere"))
    assert sprites_folder() == shipped


# ---------------------------------------------------------------------------------------------- what is shipped


@pytest.fixture(scope="module")
def shipped() -> SpriteModels:
    return read_sprite_models(Path(__file__).parents[1] / "data" / "sprites")


def test_all_models_are_shipped_and_small(shipped: SpriteModels) -> None:
    assert list(shipped.models) == list(SPRITE_MODELS)
    assert sum(path.stat().st_size for path in shipped.folder.iterdir()) <= 3_000_000
    for name, model in shipped.models.items():
        assert model.config == PLANS[name].config
        assert (model.subjects, model.colours) == (PLANS[name].subjects, PLANS[name].colours)
        assert model.training["steps"] == PLANS[name].steps
    assert shipped["autoencoder"].colours == shipped["vae"].colours  # lessons compare them


def test_the_card_tells_what_was_measured(shipped: SpriteModels) -> None:
    text = (shipped.folder / "README.md").read_text(encoding="utf-8")
    assert text == card_text(shipped)
    measured = {key for name in SPRITE_MODELS for key in shipped[name].measured}
    assert measured == {key for rows in TABLES.values() for key in rows}
    assert len(re.findall(r"^\| \w+ \| [\d,]+ \| 6 subjects", text, re.MULTILINE)) == len(SPRITE_MODELS)


@torch.no_grad()
def test_the_judge_knows_sprites_from_nothing(shipped: SpriteModels) -> None:
    judge = load_sprite_model("judge", shipped.folder)
    pictures, kinds = sprites(300, seed=77)
    assert (predicted_kinds(judge, pictures) == kinds).float().mean() >= 0.99
    others = pictures[partners_of_other_kinds(kinds)]
    assert share_recognised(judge, blended(pictures, others)) <= 0.05
    assert share_recognised(judge, negative_pictures(pictures, others)) <= 0.05
    named = load_sprite_model("perceptual", shipped.folder)
    assert (predicted_kinds(named, pictures) == kinds).float().mean() >= 0.99
    assert not torch.equal(named.stem.weight, judge.stem.weight)


@torch.no_grad()
def test_subjects_and_colours_are_told_apart_in_all_combinations(shipped: SpriteModels) -> None:
    judge = load_sprite_model("judge", shipped.folder)
    pairs = itertools.product(SPRITES, SPRITE_COLOURS)
    scenes = [sprite_scene(*pair, seed) for pair in pairs for seed in range(10)]  # also those held out of all training
    pictures = paint_sprites(scenes)
    assert correct_sprites(judge, pictures, scenes).all()
    other_colours = [replace(scene, colour=SPRITE_COLOURS[scene.colour == "red"]) for scene in scenes]
    found = correct_sprites(judge, pictures, other_colours)
    assert found[:, 0].all()
    assert not found[:, 1].any()
    order = torch.randperm(len(scenes), generator=torch.Generator().manual_seed(0)).tolist()
    colours = [SPRITE_COLOURS.index(scenes[place].colour) for place in order]
    assert predicted_colours(pictures[order]).tolist() == colours
    assert (predicted_colours(0.9 * pictures) == predicted_colours(pictures)).float().mean() > 0.9


@torch.no_grad()
def test_the_gan_draws_all_subjects(shipped: SpriteModels) -> None:
    gan, judge = load_sprite_model("gan", shipped.folder), load_sprite_model("judge", shipped.folder)
    seen = predicted_kinds(judge, gan(torch.randn(200, gan.config.latent))).bincount(minlength=len(SPRITES) + 1)
    assert (seen[:-1] > 0).all()
    assert seen[:-1].sum() / 200 > shipped["gan"].measured["recognised"] - 0.12


@torch.no_grad()
@pytest.mark.parametrize("name", ["autoencoder", "vae", "vqvae", "vqgan_without_adversary", "vqgan"])
def test_reconstructions_are_as_good_as_the_card_says(name: str, shipped: SpriteModels) -> None:
    model, judge = load_sprite_model(name, shipped.folder), load_sprite_model("judge", shipped.folder)
    pictures, kinds = sprites(120, 78, subjects=shipped[name].subjects, colours=shipped[name].colours)
    given = model(pictures)
    reconstructions = (given[0] if isinstance(given, tuple) else given).clamp(0, 1)
    found = shipped[name].measured
    if name != "vae":  # its reconstructions go through chance
        assert psnr(pictures, reconstructions).mean().item() == pytest.approx(found["psnr"], abs=1)
    assert (predicted_kinds(judge, reconstructions) == kinds).float().mean() > found["named"] - 0.05


def test_the_shipped_models_bear_out_the_lessons(shipped: SpriteModels) -> None:
    """What part 2 shows with them, with room for it to be shown."""
    found = {name: model.measured for name, model in shipped.models.items()}
    assert found["gan"]["kinds"] == len(SPRITES)
    assert found["gan"]["rarest"] > 0.03
    assert min(found[name]["named"] for name in ("autoencoder", "vae", "vqvae", "vqgan")) > 0.9
    assert found["vae"]["drawn"] > found["autoencoder"]["drawn"]
    plain, sharp = found["vqgan_without_adversary"], found["vqgan"]
    assert abs(1 - sharp["fine"]) < abs(1 - plain["fine"])
    assert sharp["feature_distance"] < plain["feature_distance"]
    assert shipped["vqgan"].config == shipped["vqgan_without_adversary"].config  # the same rate
