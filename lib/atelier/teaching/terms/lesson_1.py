"""The terms that lesson 1 introduces."""

TERMS = {
    "prompt": "The sentence that says what is to be drawn.",
    "caption": "The sentence that belongs to a picture in training; it has the form that a prompt will have.",
    "pipeline": "Networks joined in a row, each working on the output of the one before it.",
    "weights": "The numbers in a network that training adjusts; they determine what it computes.",
    "seed": "A number that determines all random choices: the same seed gives the same pictures again.",
    "token": "A word, or a piece of a word, with a number of its own.",
    "vector": "A list of numbers; its length says how many there are.",
    "tensor": "Numbers in a grid of any number of directions: a vector has one, a table two, a picture three.",
    "shape": "How far a tensor goes in each of its directions, (3, 64, 64) for instance.",
    "embedding": "A vector that represents something that is not a number, such as a word.",
    "score": "How well a picture fits a sentence according to CLIP, from −100 to 100.",
    "judge": "A network that names what a picture shows; it is used only to measure and draws nothing.",
    "95 % interval": "Where a measured number may lie; in 95 of 100 samples such an interval has the true one.",
    "held-out combination": "Two things that training never shows together, though it shows each of them with others.",
}
