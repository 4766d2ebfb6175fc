"""The terms that lesson 2e introduces."""

TERMS = {
    "VQ-GAN": "A VQ-VAE whose decoder is also trained to get past a discriminator, which makes its pictures sharp.",
    "residual block": "Layers whose result is added to what they were given, so that gradients pass them unchanged.",
    "patch discriminator": "A discriminator with many verdicts on a picture, one for each patch of it.",
    "receptive field": "The part of the picture on which one number of a feature map depends.",
    "hinge loss": "A loss that is 0 for whatever is right by a margin, so that only doubtful cases teach.",
    "adaptive weight": "The quotient of two gradients' lengths that makes two losses pull equally strongly.",
    "perceptual loss": "The distance between what a trained network sees in two pictures.",
    "warm start": "Beginning a training with weights that another one has left.",
    "rate": "The number of bits that a picture's codes take.",
    "power spectrum": "How much energy a picture has at each frequency, from slow changes to quick ones.",
    "Fréchet distance": "How far two crowds lie apart: by their means, and by the shapes of their spreads.",
    "peak signal-to-noise ratio": "The squared error of a picture's pixels on the scale of decibels; more is better.",
}
