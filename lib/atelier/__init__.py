"""Atelier: DALL·E Mini taken apart and built again from scratch.

    from atelier import Pipeline
    Pipeline.from_pretrained().draw("the Eiffel tower landing on the moon").save("drawing.png")

The blocks, which the lessons build, are in `atelier.blocks`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atelier.drawing.pipeline import Drawing, Pipeline

__all__ = ["Drawing", "Pipeline"]
__version__ = "0.2.0"  # the only place where it is written


def __getattr__(name: str) -> Any:
    """Import the pipeline when it is first asked for, so that `atelier.world` alone needs nothing but torch."""
    if name in __all__:
        from atelier.drawing import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'atelier' has no attribute {name!r}")
