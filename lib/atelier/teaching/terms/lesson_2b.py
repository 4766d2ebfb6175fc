"""The terms that lesson 2b introduces."""

TERMS = {
    "autoencoder": "A network that learns to reproduce its input after passing it through a bottleneck.",
    "bottleneck": "A layer with only a few numbers, so that what passes it has to be described briefly.",
    "encoder": "An autoencoder's half before the bottleneck, from picture to latent; in BART, the half that reads.",
    "decoder": "An autoencoder's half behind the bottleneck, from latent to picture; in BART, the half that writes.",
    "reconstruction": "The picture that an autoencoder returns for a picture it was given.",
    "reconstruction loss": "The distance between a picture and its reconstruction, which training makes small.",
    "latent space": "All the values that a latent vector can take; with two numbers it is a plane.",
    "feature map": "A grid of cells with several numbers in each, such as the output of a convolution.",
    "cluster": "A heap of points that lie close to each other and away from the rest.",
    "gap": "A part of the latent space that is further from every picture's latent than these are from each other.",
}
