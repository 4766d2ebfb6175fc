"""The terms that lesson 2a introduces."""

TERMS = {
    "generator": "The network that makes a picture out of random numbers.",
    "discriminator": "The network that says how real a picture looks; its gradient trains the generator.",
    "latent vector": "The list of numbers from which a generator or a decoder makes one picture.",
    "logit": "A number whose sigmoid is a probability; softmax turns several logits into probabilities.",
    "minimax game": "A game about a number that one player makes as large as possible, the other as small as possible.",
    "adversarial loss": "A loss that is computed by a second network, which is trained as well.",
    "non-saturating loss": "The generator's loss −log D(G(z)), whose gradient is large while its pictures are bad.",
    "transposed convolution": "A convolution run backwards: each cell of a small map is spread over a larger one.",
    "spectral normalisation": "Dividing a layer's weights by their largest singular value, which bounds its slope.",
    "mode": "One of the heaps that a data set consists of, such as all its stars.",
    "mode collapse": "A failure in which a generator draws only one or a few of the modes of its training data.",
}
