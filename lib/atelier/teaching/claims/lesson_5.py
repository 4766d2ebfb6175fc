"""The claims that lesson 5 measures, with their rules."""

from __future__ import annotations

from atelier.teaching.claims.claim import Claim, Rule

CLAIMS: dict[str, Claim] = {
    "pipeline-joined": Claim(
        "Piecing the blocks together. The Dall.E Mini Text-to-Image Pipeline.",
        source="A heading. The lesson joins the blocks itself and compares the result with the library's pipeline.",
    ),
    "any-prompt": Claim(
        "AI model drawing images from any prompt!",
        rules=(Rule("prompts of a world with twice as many subjects whose four facts the drawing shows", 0.5),),
    ),
}
