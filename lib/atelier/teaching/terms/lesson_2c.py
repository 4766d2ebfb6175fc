"""Terms that lesson 2c introduces."""

TERMS = {
    "prior": "The distribution of latents before any picture is seen, p(z); in a VAE the normal distribution N(0, I).",
    "posterior": "The distribution of latents once a picture is seen; a VAE's encoder gives an approximation, q(z|x).",
    "reparameterisation": "Writing a random point as z = μ + σ·ε: chance is an input, and μ and σ get gradients.",
    "KL divergence": "How far a distribution q is from another one, p: the mean of log q − log p over samples of q.",
    "ELBO": "The evidence lower bound: a computable number below log p(x), which a VAE's training lifts.",
    "nat": "The unit of information that goes with natural logarithms; 1/ln 2 ≈ 1.44 bits.",
    "aggregate posterior": "The mixture of the posteriors of all pictures: all their clouds as one distribution.",
    "morph": "A picture on the way from one thing to another one, with traits of both.",
    "posterior collapse": "When a posterior is the prior whatever the picture is, so that the latents say nothing.",
}
