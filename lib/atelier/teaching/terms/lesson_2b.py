"""The terms that lesson 2b introduces."""

TERMS = {
    "autoencoder": "A network that learns to give back what it was given, through a bottleneck.",
    "bottleneck": "A place in a network where only few numbers fit, so that what passes has to be described briefly.",
    "encoder": "An autoencoder's half before the bottleneck, from picture to latent; in BART, the half that reads.",
    "decoder": "An autoencoder's half behind the bottleneck, from latent to picture; in BART, the half that writes.",
    "reconstruction": "What an autoencoder makes of a picture it was given.",
    "reconstruction loss": "The distance between a picture and its reconstruction, which training makes small.",
    "latent space": "All the values that a latent vector can take; with two numbers a plane.",
    "feature map": "A grid of cells with several numbers in each, as a convolution makes it of a picture.",
    "cluster": "A heap of points that lie close to each other and away from the rest.",
    "gap": "A part of the latent space that is further from every picture's latent than these are from each other.",
}
