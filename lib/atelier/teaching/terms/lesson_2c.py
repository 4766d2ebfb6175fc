"""The terms that lesson 2c introduces."""

TERMS = {
    "prior": "The distribution of latents before any picture is seen, p(z); in a VAE the normal distribution N(0, I).",
    "posterior": "The distribution of latents once a picture is seen; a VAE's encoder gives an approximation, q(z|x).",
    "reparameterisation": "Writing a random point as z = μ + σ·ε: ε is an input, so that μ and σ get gradients.",
    "KL divergence": "How far a distribution q is from another one, p: the mean of log q − log p over samples of q.",
    "ELBO": "The evidence lower bound: a computable number below log p(x), which a VAE's training maximises.",
    "nat": "The unit of information that goes with natural logarithms; 1/ln 2 ≈ 1.44 bits.",
    "aggregate posterior": "The mixture of the posteriors of all pictures: all their clouds as one distribution.",
    "morph": "A picture between two things, with features of both.",
    "posterior collapse": "When the posterior equals the prior for every picture, so that latents say nothing of it.",
}
