"""The terms that lesson 4 introduces."""

TERMS = {
    "CLIP": "A network that puts pictures and sentences into one space, where what belongs together is close.",
    "tower": "One of two networks that stand side by side and end in the same space.",
    "cosine similarity": "The cosine of the angle between two vectors: 1 for the same direction, 0 for a right angle.",
    "contrastive learning": "Learning what belongs together by telling it apart from what does not.",
    "in-batch negative": "A wrong pair that comes for free: a picture with the caption of another one of the batch.",
    "vision transformer": "A transformer whose tokens are square patches of a picture.",
    "class token": "An additional token that belongs to no patch and collects what the whole picture is about.",
    "temperature": "What numbers are divided by before a softmax: the lower, the surer its answer.",
    "retrieval": "Finding, among many candidates, the one that belongs to a given picture or sentence.",
    "zero-shot": "Solving a task without a single example that was made for it.",
    "prompt template": "A sentence with a gap into which a label is put.",
    "modality gap": "The distance between the region of the pictures and that of the captions in their common space.",
    "bag of words": "A sentence taken as a collection of words, whose order does not count.",
    "hard negative": "A wrong answer that is difficult to tell from the right one.",
}
