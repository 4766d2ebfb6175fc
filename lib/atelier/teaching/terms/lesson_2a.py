"""The terms that lesson 2a introduces."""

TERMS = {
    "generator": "The network that makes a picture out of random numbers.",
    "discriminator": "The network that says of a picture how real it looks; it trains the generator by telling.",
    "latent vector": "The list of numbers out of which a generator or a decoder makes one picture.",
    "logit": "A number whose sigmoid is a probability, 0 for one half; of several logits a softmax makes shares.",
    "minimax game": "A game over one number that one player makes as large and the other as small as possible.",
    "adversarial loss": "A loss that is not a formula but the opinion of a second network, which learns as well.",
    "non-saturating loss": "The generator's loss −log D(G(z)), whose gradient is large while its pictures are bad.",
    "transposed convolution": "A convolution run backwards: each cell of a small map is spread over a larger one.",
    "spectral normalisation": "Dividing a layer's weights by their largest singular value, which bounds its slope.",
    "mode": "One of the heaps that a data set consists of, such as all its stars.",
    "mode collapse": "What has happened when a generator draws only one or a few of the modes it was shown.",
}
