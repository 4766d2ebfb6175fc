"""What is seen inside is what the translator computes."""

from concurrent.futures import ThreadPoolExecutor
from typing import cast

import torch
from atelier.blocks.bart import DecoderLayer
from atelier.drawing.attention import attention_to_words, cross_attention
from atelier.drawing.pipeline import Drawing, Pipeline
from tiny_preset import filled_preset


def test_cross_attention_is_what_the_layers_used(tmp_path) -> None:
    """Putting the weights seen to the values by hand gives each layer's own output."""
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
    seen, output = outputs[0]
    by_hand = last.out_proj((weights[:, -1] @ seen.values).transpose(1, 2).flatten(2))  # (3, s, d)
    torch.testing.assert_close(by_hand, output.view_as(by_hand), rtol=1e-4, atol=1e-5)
    assert not first._forward_hooks


def test_pieces_are_joined_to_words(tmp_path) -> None:
    pipe = Pipeline.from_pretrained(filled_preset(tmp_path).folder, device="cpu")
    drawing = pipe.draw("a giraffe on the moon", n=2, seed=0)
    seen = attention_to_words(pipe, drawing.prompt, drawing.codes)
    assert seen.words == ["a", "giraffe", "on", "the", "moon"]
    assert seen.shares.shape == (*drawing.codes.shape, 5)
    torch.testing.assert_close(seen.shares.sum(-1), torch.ones(drawing.codes.shape))


def test_others_can_draw_while_a_drawing_is_looked_into(tmp_path) -> None:
    pipe = Pipeline.from_pretrained(filled_preset(tmp_path).folder, device="cpu")
    alone = [pipe.draw("a red cat on the moon", n=3, seed=seed) for seed in range(8)]
    attention = attention_to_words(pipe, alone[0].prompt, alone[0].codes)

    def draw(number: int) -> Drawing:
        return pipe.draw("a red cat on the moon", n=3, seed=number % len(alone))

    def look(_: int) -> torch.Tensor:
        return attention_to_words(pipe, alone[0].prompt, alone[0].codes).shares

    with ThreadPoolExecutor(6) as threads:
        looks = [threads.submit(look, number) for number in range(60)]
        drawings = list(threads.map(draw, range(60)))
        shares = [seen.result() for seen in looks]
    for number, drawing in enumerate(drawings):
        assert torch.equal(drawing.codes, alone[number % len(alone)].codes)
        assert torch.equal(drawing.pictures, alone[number % len(alone)].pictures)
    assert all(torch.equal(own, attention.shares) for own in shares)
