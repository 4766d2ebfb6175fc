"""The terms that lesson 5 introduces."""

TERMS = {
    "sampling": "Choosing by lot, where what is likelier is chosen more often.",
    "top-k": "Leaving only the k likeliest codes in the lot.",
    "top-p": "Leaving only the likeliest codes that together reach the probability p.",
    "candidate": "A picture that is drawn so that the ranker has something to choose from.",
    "variety": "How much the pictures of one prompt differ: the share of cells in which two of them have other codes.",
    "completion": "The rest of a picture whose upper part is given, drawn to go with it.",
}
