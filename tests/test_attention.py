"""The attention that is shown is the attention that the translator computes."""

from concurrent.futures import ThreadPoolExecutor
from typing import cast

import torch
from atelier.blocks.bart import DecoderLayer
from atelier.drawing.attention import attention_to_words, cross_attention
from atelier.drawing.pipeline import Drawing, Pipeline
from tiny_preset import filled_preset


def test_cross_attention_gives_the_output_of_the_layer(tmp_path) -> None:
    """The attention weights times the values give the output of the layer's attention."""
    pipe = Pipeline.from_pretrained(filled_preset(tmp_path).folder, device="cpu")
    text = pipe.tokenizer.encode(["a red car"], len(pipe.tokenizer.pieces("a red car")) + 2)
    codes = torch.randint(pipe.vqgan.config.codes, (3, pipe.bart.config.target_length))
    outputs = []
    first, last = (cast(DecoderLayer, pipe.bart.decoder.layers[i]).encoder_attn for i in (0, -1))
    hook = last.register_forward_hook(lambda _, arguments, output: outputs.append((arguments[1], output)))
    with torch.no_grad():
        weights = cross_attention(pipe.bart, text, codes)
    hook.remove()
    c = pipe.bart.config
    assert weights.shape == (3, c.decoder_layers, c.heads, c.target_length, text.shape[1])
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    text_kv, output = outputs[0]
    by_hand = last.out_proj((weights[:, -1] @ text_kv.values).transpose(1, 2).flatten(2))  # (3, s, d)
    torch.testing.assert_close(by_hand, output.view_as(by_hand), rtol=1e-4, atol=1e-5)
    assert not first._forward_hooks


def test_pieces_are_joined_to_words(tmp_path) -> None:
    pipe = Pipeline.from_pretrained(filled_preset(tmp_path).folder, device="cpu")
    drawing = pipe.draw("a giraffe on the moon", n=2, seed=0)
    attention = attention_to_words(pipe, drawing.prompt, drawing.codes)
    assert attention.words == ["a", "giraffe", "on", "the", "moon"]
    assert attention.shares.shape == (*drawing.codes.shape, 5)
    torch.testing.assert_close(attention.shares.sum(-1), torch.ones(drawing.codes.shape))


def test_drawing_and_attention_can_be_computed_at_the_same_time(tmp_path) -> None:
    pipe = Pipeline.from_pretrained(filled_preset(tmp_path).folder, device="cpu")
    expected = [pipe.draw("a red cat on the moon", n=3, seed=seed) for seed in range(8)]
    attention = attention_to_words(pipe, expected[0].prompt, expected[0].codes)

    def draw(number: int) -> Drawing:
        return pipe.draw("a red cat on the moon", n=3, seed=number % len(expected))

    def attend(_: int) -> torch.Tensor:
        return attention_to_words(pipe, expected[0].prompt, expected[0].codes).shares

    with ThreadPoolExecutor(6) as threads:
        futures = [threads.submit(attend, number) for number in range(60)]
        drawings = list(threads.map(draw, range(60)))
        shares = [future.result() for future in futures]
    for number, drawing in enumerate(drawings):
        assert torch.equal(drawing.codes, expected[number % len(expected)].codes)
        assert torch.equal(drawing.pictures, expected[number % len(expected)].pictures)
    assert all(torch.equal(other, attention.shares) for other in shares)
