"""The terms that lesson 2d introduces."""

TERMS = {
    "VQ-VAE": "An autoencoder whose bottleneck is a grid of vectors, each one chosen from a learned codebook.",
    "codebook": "A learned table of vectors; a quantising layer outputs only rows of it.",
    "code": "A row of the codebook, and its number: one word of the language in which pictures are written.",
    "quantisation": "Replacing a value by the nearest one of a fixed list.",
    "straight-through estimator": "Passing a gradient through a step without one as if the step changed nothing.",
    "commitment loss": "The squared distance of the encoder's vectors to their codes; it moves the vectors alone.",
    "perplexity": "The number of equally frequent codes that would carry as much information: exp of the entropy.",
    "dead code": "A row of the codebook that no vector chooses, and that therefore never moves.",
    "dimensional collapse": "When the rows of a codebook vary in few directions only, although they have many numbers.",
    "whitening": "Multiplying vectors by a matrix so that they have variance 1 in every direction.",
}
