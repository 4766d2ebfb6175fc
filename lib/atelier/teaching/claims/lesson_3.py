"""The claims that lesson 3 measures, with their rules."""

from __future__ import annotations

from atelier.teaching.claims.claim import Claim, Rule

CLAIMS: dict[str, Claim] = {
    "bart-cleans": Claim(
        "A BART model is pre-trained to “clean” text captions.",
        rules=(
            Rule.of_difference(
                "new captions restored exactly if they lost no important word, trained on damaged captions minus "
                "trained on sound ones",
                threshold=0.5,
            ),
        ),
    ),
    "bart-embeds": Claim(
        "BART-based Encoder-Decoder: Encodes captions as embedding vectors",
        rules=(
            Rule.of_difference(
                "captions that are nearer to one of the same meaning than to one with another fact, trained encoder "
                "minus random encoders"
            ),
            Rule.of_difference("the same, trained encoder minus its embedding table alone"),
        ),
    ),
    "bart-translates": Claim(
        "For Dall.E Mini, the BART model translates captions into the codebook vocabulary.",
        rules=(
            Rule.of_difference(
                "held-out captions whose four facts the judge finds, in their own drawing minus in another caption's",
                threshold=0.5,
            ),
            Rule.of_number(
                "cost of a painted picture's codes, without a caption minus with its own", 0.0, unit="nats per code"
            ),
        ),
    ),
    "bart-codebook-maps": Claim(
        "The codebook of VQ-GAN, in effect, maps text embeddings to image embeddings.",
        rules=(
            Rule.of_difference(
                "drawings found among 256 by a linear map from the caption's embedding, trained encoder minus random "
                "encoders"
            ),
            Rule.of_difference(
                "drawings with all four facts of their caption, its codebook minus the same with shuffled rows",
                threshold=0.5,
            ),
        ),
    ),
}
