"""A recipe for each block, and the table of the recipes that train a block of a preset."""

from __future__ import annotations

from atelier.training.recipe import Recipe
from atelier.training.recipes.bart import BartRecipe
from atelier.training.recipes.classifier import ClassifierRecipe, JudgeRecipe
from atelier.training.recipes.clip import CLIPRecipe
from atelier.training.recipes.vqgan import VQGANRecipe

# By the block's name in commands and settings, in the order of training: a block needs only blocks before it.
RECIPES: dict[str, type[Recipe]] = {
    "classifier": ClassifierRecipe,
    "judge": JudgeRecipe,
    "vqgan": VQGANRecipe,
    "bart": BartRecipe,
    "clip": CLIPRecipe,
}

__all__ = ["RECIPES", "BartRecipe", "CLIPRecipe", "ClassifierRecipe", "JudgeRecipe", "VQGANRecipe"]
