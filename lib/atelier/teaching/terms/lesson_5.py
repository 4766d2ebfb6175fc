"""The terms that lesson 5 introduces."""

TERMS = {
    "sampling": "Choosing at random, with likelier options chosen more often.",
    "top-k": "Sampling from the k likeliest codes only.",
    "top-p": "Sampling from the likeliest codes only, as many as together reach the probability p.",
    "candidate": "One of several pictures of a prompt, from which the ranker chooses.",
    "variety": "How much the pictures of one prompt differ: the share of cells in which two of them have other codes.",
    "completion": "The rest of a picture whose upper part is given, drawn to match it.",
}
