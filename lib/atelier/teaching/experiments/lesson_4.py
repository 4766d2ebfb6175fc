"""The experiments of lesson 4: what ranking gains, and what labels teach that captions do not."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.clip import CLIP, CLIPConfig, VisionTransformer, contrastive_loss
from atelier.decoding import SamplingOptions
from atelier.drawing.pipeline import Pipeline
from atelier.evaluation.evaluate import CANDIDATE_COUNTS, UNGUIDED, judge_drawings
from atelier.teaching.experiments import Experiment
from atelier.weights.preset import load_preset
from atelier.world import HeldOut, Scene, caption, paint, small_world

PROMPTS = 128  # for each seed of BEST_OF; sixteen pictures are drawn of each
WAYS: dict[str, tuple[HeldOut, SamplingOptions]] = {
    "held out, as the preset draws": ("only", {}),
    "held out, drawn freely": ("only", UNGUIDED),
    "held out, drawn carelessly": ("only", {"guidance": 1.0, "temperature": 1.4}),
    "seen, drawn freely": ("never", UNGUIDED),
}


def rank_drawings(arm: str, seed: int) -> dict[str, list[str]]:
    """Draw sixteen pictures of new captions and let the judge say which show all four facts.

    Args:
        arm: of WAYS: which captions, and how they are drawn.
        seed: of the captions and of the pictures.

    Returns:
        "right": for each caption sixteen characters, "1" for a picture that is right and "0" for one that is not, in
        CLIP's order, the best first.
    """
    held_out, options = WAYS[arm]
    preset, world = load_preset("laptop"), small_world()
    correct = judge_drawings(
        Pipeline.from_pretrained("laptop", device="cpu"), preset.load_classifier("judge"), world,
        world.sample(PROMPTS, 4_000 + seed, held_out=held_out, complete=True), CANDIDATE_COUNTS[-1], options,
        seed=10_000 * (seed + 1),
    )  # fmt: skip
    return {"right": ["".join(str(int(picture)) for picture in row) for row in correct.prod(2)]}


def right_pictures(arm: str) -> Tensor:
    """Read which pictures of BEST_OF are right, of all seeds: (captions, 16), in CLIP's order."""
    rows = [row for result in BEST_OF.results()[arm] for row in result["right"]]
    return torch.tensor([[float(picture) for picture in row] for row in rows])


BEST_OF = Experiment(
    "4-best-of",
    "How often is CLIP's first of several drawings right in subject, setting, colour and style?",
    tuple(WAYS),
    (0, 1, 2),
    rank_drawings,
    tuple(f"laptop/{block}.safetensors" for block in ("bart", "vqgan", "clip", "judge")),
)


# ---------------------------------------------------------------------------------------------- captions or labels

STEPS, BATCH, RATE = 160, 128, 1.5e-3
SIZES = CLIPConfig(
    embed_dim=64, image_size=64, patch_size=16, vision_width=64, vision_layers=2, vision_heads=4, vocabulary=468,
    context_length=32, text_width=64, text_layers=2, text_heads=4, end_token=2, pixel_mean=(0.5, 0.5, 0.5),
    pixel_std=(0.25, 0.25, 0.25),
)  # fmt: skip


class Supervised(nn.Module):
    """CLIP's vision tower with a linear classifier for each attribute of the small world.

    Args:
        config: the sizes of the tower.
    """

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.tower = VisionTransformer(config)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(config.embed_dim, len(labels)) for name, labels in small_world().attributes.items()}
        )

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Map pictures (n, 3, 64, 64), from 0 to 1, to logits (n, labels) for each attribute."""
        seen = self.tower((pictures - 0.5) / 0.25)
        return {name: head(seen) for name, head in self.heads.items()}


def labels_of(scenes: list[Scene]) -> dict[str, Tensor]:
    """The labels (n,) of each attribute of the small world."""
    labels = [small_world().labels(scene) for scene in scenes]
    return {name: torch.tensor([each[name] for each in labels]) for name in small_world().attributes}


def train(model: nn.Module, loss_of: Callable[[slice], Tensor]) -> None:
    """Train a model for STEPS batches; `loss_of` gives the loss of the examples in a slice."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        loss = loss_of(slice(step * BATCH, (step + 1) * BATCH))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    model.eval()


@torch.no_grad()
def zero_shot(clip: CLIP, pictures: Tensor) -> dict[str, Tensor]:
    """Classify pictures by the sentences of all combinations: the probabilities (n, labels) of each attribute."""
    attributes, tokenizer = small_world().attributes, load_preset("laptop").load_clip_tokenizer()
    sentences = [
        caption(Scene(subject, colour, setting, "day", style, size="large", seed=3), complete=True)
        for subject in attributes["subject"]
        for setting in attributes["setting"]
        for colour in attributes["colour"]
        for style in attributes["style"]
    ]
    written = torch.cat([clip.encode_text(tokenizer.encode(sentences[i : i + 640], 32)) for i in range(0, 2560, 640)])
    logits = clip.logit_scale.exp() * clip.encode_image(pictures) @ written.T  # (n, 2560)
    share = logits.softmax(1).view(-1, *(len(labels) for labels in attributes.values()))  # (n, 10, 8, 8, 4)
    axes = range(1, 5)
    return {name: share.sum([axis for axis in axes if axis != own]) for own, name in zip(axes, attributes, strict=True)}


def train_tower(arm: str, seed: int) -> dict[str, float]:
    """Train a tower with captions or with labels on the same pictures, and classify 500 new ones.

    Args:
        arm: "captions" or "labels".
        seed: of the weights at the beginning and of the pictures.

    Returns:
        The share of the 500 pictures that is classified rightly, for each attribute.
    """
    world, tokenizer = small_world(), load_preset("laptop").load_clip_tokenizer()
    scenes = world.sample(STEPS * BATCH, 4_100 + seed)
    pixels = torch.cat([(255 * paint(scenes[i : i + BATCH], 64)).round().byte() for i in range(0, len(scenes), BATCH)])
    exam = world.sample(500, 4_200, complete=True)
    pictures, truth = paint(exam, 64), labels_of(exam)
    torch.manual_seed(seed)
    if arm == "captions":
        clip, texts = CLIP(SIZES), tokenizer.encode([caption(scene) for scene in scenes], 32)
        texts = texts[:, : int((texts != 1).sum(1).max())]  # no caption is longer

        def contrast(batch: slice) -> Tensor:
            scale = clip.logit_scale.clamp(max=torch.tensor(100.0).log().item()).exp()
            return contrastive_loss(
                clip.encode_image(pixels[batch].float() / 255), clip.encode_text(texts[batch]), scale
            )

        train(clip, contrast)
        answers = zero_shot(clip, pictures)
    else:
        supervised, wanted = Supervised(SIZES), labels_of(scenes)

        def classify(batch: slice) -> Tensor:
            guesses = supervised(pixels[batch].float() / 255)
            losses = [F.cross_entropy(guesses[name], wanted[name][batch], ignore_index=-1) for name in guesses]
            return torch.stack(losses).sum()

        train(supervised, classify)
        with torch.no_grad():
            answers = supervised(pictures)
    return {name: (answers[name].argmax(1) == truth[name]).float().mean().item() for name in truth}


SUPERVISION = Experiment(
    "4-supervision",
    "With equally many pictures, how well does a tower classify that learned from captions, or from labels?",
    ("captions", "labels"),
    (0, 1, 2),
    train_tower,
    ("laptop/tokenizer.json",),
)

EXPERIMENTS = (BEST_OF, SUPERVISION)
