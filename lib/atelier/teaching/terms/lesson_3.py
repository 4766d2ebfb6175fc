"""The terms that lesson 3 introduces."""

TERMS = {
    "autoregressive": "Writing one token after the other, each one depending on those before it.",
    "attention": "To ask a question of a set of vectors and receive a mean of their answers, weighted by their fit.",
    "query": "The vector with which attention asks.",
    "key": "The vector with which something that can be looked at is compared with a query.",
    "value": "The vector that something which is looked at hands over.",
    "head": "One of several pieces of a vector that look independently, each with queries, keys and values of its own.",
    "attention mask": "A table that says which query may see which key.",
    "causal mask": "The attention mask that hides from each token those that come after it.",
    "self-attention": "Attention of a sequence's vectors to each other.",
    "cross-attention": "Attention of one sequence's vectors to those of another one, of codes to words for instance.",
    "feed-forward layer": "Two linear layers with a bend between them, applied at each place by itself.",
    "layer normalisation": "Bringing a vector's numbers to mean 0 and variance 1, with a learned scale and shift.",
    "residual stream": "The sums that run through a transformer, to which every layer adds what it has found.",
    "teacher forcing": "Training a writer to foresee each next token from the right ones before it, not from its own.",
    "cache": "A memory of the keys and values of earlier tokens, so that they need not be computed again.",
    "pre-training": "Training on a task whose data cost nothing, before or instead of the task that one is after.",
    "denoising": "Learning to give back a text, or a picture, that has been damaged on purpose.",
    "text infilling": "The noise that replaces a run of tokens, of unknown length, by a single mask.",
    "super-conditioning": "DALL·E Mini's name for guidance: exaggerating the difference that the caption makes.",
}
