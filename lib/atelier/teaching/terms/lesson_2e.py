"""The terms that lesson 2e introduces."""

TERMS = {
    "VQ-GAN": "A VQ-VAE whose decoder is also trained to get past a discriminator, which makes its pictures sharp.",
    "residual block": "Layers whose output is added to their input, so that gradients also have a direct path.",
    "patch discriminator": "A discriminator with many verdicts on a picture, one for each patch of it.",
    "receptive field": "The part of the picture on which one number of a feature map depends.",
    "hinge loss": "A loss that is 0 for examples that are right by a margin, so that only the others give gradients.",
    "adaptive weight": "The quotient of two gradients' lengths, by which two losses are balanced.",
    "perceptual loss": "The distance between a trained network's features of two pictures.",
    "warm start": "Starting a training run with the weights of an earlier one.",
    "rate": "The number of bits that a picture's codes take.",
    "power spectrum": "How much energy a picture has at each frequency, from slow changes to quick ones.",
    "Fréchet distance": "The distance between two sets of vectors: between their means and between their covariances.",
    "peak signal-to-noise ratio": "The squared error of a picture's pixels on the scale of decibels; more is better.",
}
