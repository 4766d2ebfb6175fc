"""The terms that lesson 1 introduces."""

TERMS = {
    "prompt": "The sentence that says what is to be drawn.",
    "caption": "The sentence that belongs to a picture in training; it has the form that a prompt will have.",
    "pipeline": "Networks joined in a row, each working on what the one before it hands on.",
    "weights": "The numbers in a network that training has found, and that its work depends on.",
    "seed": "A number that fixes all chance: the same seed gives the same pictures again.",
    "token": "A word, or a piece of one, that has a number of its own.",
    "vector": "A list of numbers; its length says how many there are.",
    "tensor": "Numbers in a grid of any number of directions: a vector has one, a table two, a picture three.",
    "shape": "How far a tensor goes in each of its directions, (3, 64, 64) for instance.",
    "embedding": "A vector that stands for something which is no number, such as a word.",
    "score": "How well a picture and a sentence go together by CLIP's lights, from −100 to 100.",
    "judge": "A network that looks at a picture and says what it shows; it only measures and draws nothing.",
    "held-out combination": "Two things that training never shows together, though it shows each of them with others.",
}
