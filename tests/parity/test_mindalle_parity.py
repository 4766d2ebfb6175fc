"""min-dalle's .pt files give the same states, logits, codes, pictures and token ids in our code as in its own.

`test_bart_parity` compares without files; here the weights are written to encoder.pt, decoder.pt and detoker.pt.
"""

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
import transformers
from atelier.blocks.bart import Bart, BartConfig
from atelier.decoding import Sampling, decode
from atelier.drawing.packed import PackedLinear, pack_linear_layers
from atelier.weights.normalizers import normalize_for_min_dalle
from atelier.weights.published.mindalle import load_bart, load_detoker
from atelier.weights.published.tokenizer import read_tokenizer
from atelier.weights.tokenizer import Tokenizer
from their_min_dalle import DalleBartDecoder, DalleBartEncoder, TextTokenizer, VQGanDetokenizer
from torch import Tensor, nn

FIXTURE = Path(__file__).parent / "fixtures" / "dalle-mini-flax" / "scanned"
WITHOUT_SCALE = ("pre_self_attn_layer_norm", "pre_encoder_attn_layer_norm", "glu.ln0", "glu.ln1", "final_ln")
GUIDANCE = 3.0

# min-dalle's code samples 256 of the first 2^14 codes and has this code as the start token.
THEIR_START = 2**14 - 1
TINY = BartConfig(60, 2**14, 10, 256, width=32, heads=4, inner_width=44, encoder_layers=2, decoder_layers=3)


@dataclass(frozen=True)
class Pair:
    """Models with the same weights in our code and in min-dalle's.

    Attributes:
        ours: our translator.
        encoder: of min-dalle.
        decoder: of min-dalle.
    """

    ours: Bart
    encoder: DalleBartEncoder
    decoder: DalleBartDecoder


def their_models(config: BartConfig) -> tuple[DalleBartEncoder, DalleBartDecoder]:
    """Build min-dalle's models with uninitialised weights."""
    sizes = {"embed_count": config.width, "attention_head_count": config.heads, "glu_embed_count": config.inner_width}
    with torch.device("meta"):  # random weights of full size take long, and are replaced anyway
        encoder = DalleBartEncoder(
            **sizes,
            layer_count=config.encoder_layers,
            text_vocab_count=config.text_vocabulary,
            text_token_count=config.text_length,
            device="cpu",
        )
        decoder = DalleBartDecoder(
            **sizes, layer_count=config.decoder_layers, image_vocab_count=config.target_vocabulary, device="cpu"
        )
    return encoder.to_empty(device="cpu").eval(), decoder.to_empty(device="cpu").eval()


def randomise(model: nn.Module, spread: float) -> None:
    """Fill a model with random values that float16 represents exactly; norms without scale keep the scale 1."""
    for name, parameter in model.named_parameters():
        if name.endswith(tuple(f"{norm}.weight" for norm in WITHOUT_SCALE)):
            parameter.data.fill_(1.0)
        else:
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            few = (centre + spread * torch.randn(min(parameter.numel(), 1_000_003))).half().float()
            repeats = -(-parameter.numel() // len(few))
            parameter.data.copy_(few.repeat(repeats)[: parameter.numel()].view_as(parameter))


def published(model: nn.Module) -> dict[str, Tensor]:
    absent = tuple(f"{norm}.weight" for norm in WITHOUT_SCALE)
    return {name: value.half() for name, value in model.state_dict().items() if not name.endswith(absent)}


def pair(config: BartConfig, folder: Path, spread: float) -> Pair:
    torch.manual_seed(0)
    encoder, decoder = their_models(config)
    for name, model in (("encoder.pt", encoder), ("decoder.pt", decoder)):
        randomise(model, spread)
        torch.save(published(model), folder / name)
    ours = load_bart(folder / "encoder.pt", folder / "decoder.pt", replace(config, start_token=THEIR_START))
    return Pair(ours, encoder, decoder)


def texts(config: BartConfig) -> Tensor:
    """The two rows of super-conditioning: the empty caption, and a caption with padding."""
    rows = torch.ones(2, config.text_length, dtype=torch.long)
    rows[0, :2] = torch.tensor([0, 2])
    rows[1, :7] = torch.tensor([0, 17, 44, 5, 9, 31, 2])
    return rows


def relative(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@torch.no_grad()
def compare(both: Pair, steps: int) -> dict[str, float]:
    """Compare encoder states, logits and a greedy sequence with guidance, with plain and with packed linear layers.

    Args:
        both: the models.
        steps: length of the sequence.

    Returns:
        The largest relative errors of states and logits. The greedy sequences are asserted to be equal.
    """
    ours, config = both.ours, both.ours.config
    text = texts(config)
    mask, theirs_state = ours.text_mask(text), both.encoder(text)
    codes = torch.randint(2**14, (1, steps), generator=torch.Generator().manual_seed(3))
    memory = torch.zeros(config.decoder_layers, 4, 256, config.width)
    theirs_logits, _ = both.decoder(
        attention_mask=mask[:, None, None],
        encoder_state=theirs_state,
        attention_state=memory,
        prev_tokens=ours.shift(codes),
        token_index=torch.arange(steps),
    )
    written, memory = torch.full((1, steps + 1), THEIR_START), torch.zeros_like(memory)
    for i in range(steps):
        written[:, i + 1], memory = both.decoder.sample_tokens(
            settings=torch.tensor([1.0, 1, GUIDANCE]),  # temperature, top k, guidance: top 1 is greedy
            attention_mask=mask[:, None, None],
            encoder_state=theirs_state,
            attention_state=memory,
            prev_tokens=written[:, [i]],
            token_index=torch.tensor([i]),
        )
    assert len(set(written[0, 1:].tolist())) > 3
    errors = {}
    for how in ("plain", "packed"):
        if how == "packed":
            pack_linear_layers(ours.half()).float()  # as in a pipeline; float16 represents these weights exactly
            assert isinstance(ours.lm_head, PackedLinear) == (torch.backends.quantized.engine in ("x86", "fbgemm"))
        errors[f"{how} state"] = relative(ours.encode(text), theirs_state)
        errors[f"{how} logits"] = relative(ours(text, codes.expand(2, -1)), theirs_logits)
        stream = decode(ours, text[1:], text[0], Sampling(guidance=GUIDANCE, temperature=0), torch.zeros(1, 256))
        assert torch.equal(next(codes for codes in stream if codes.shape[1] == steps), written[:, 1:]), how
    return errors


def test_a_tiny_translator_is_the_same(tmp_path):
    errors = compare(pair(TINY, tmp_path, spread=0.3), steps=24)
    assert max(errors.values()) < 1e-5, errors


def test_the_translator_of_mini_size_is_the_same(tmp_path):
    errors = compare(pair(BartConfig.dalle_mini(), tmp_path, spread=0.05), steps=6)
    assert max(errors.values()) < 1e-4, errors
    for file in tmp_path.iterdir():
        file.unlink()  # 0.9 GB


@torch.no_grad()
def test_the_detokenizer_of_full_size_is_the_same(tmp_path):
    torch.manual_seed(0)
    theirs = VQGanDetokenizer().eval()
    for name, parameter in theirs.named_parameters():
        if "norm" in name:
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.embedding.weight.normal_(std=0.5)
    nn.init.constant_(cast(Tensor, theirs.decoder.conv_out.bias), 0.5)  # values within the range of pixels
    torch.save(theirs.state_dict(), tmp_path / "detoker.pt")
    codes = torch.randint(2**14, (1, 256))
    expected = theirs(False, codes)  # (256, 256, 3), from 0 to 255
    picture = load_detoker(tmp_path / "detoker.pt").decode_codes(codes.view(1, 16, 16))
    pixels = picture[0].permute(1, 2, 0) * 255
    assert pixels.shape == expected.shape
    assert (pixels - expected).abs().max() < 1  # of 255, so rounded pixels differ by at most one
    assert (pixels - expected).abs().max() < 0.02
    assert ((expected > 1) & (expected < 254)).float().mean() > 0.5


# ---------------------------------------------------------------------------------------------- texts

PARTS = """
a an the of in on cat cats avocado armchair tower Eiffel moon lake mountains sunset painting style Van Gogh
it's they're 'quoted' "double" don't rock'n'roll o'clock 's ' café naïve Ünïcödé 東京 Москва αβγ e.g. co-op
half-life 1999's 3d 4k 12/25/2021 v1.5 $1,000,000 50% #hashtag @name http://example.com/x?y=z&q=1 a_b snake_case
(brackets) [1] {x} <b> & * ~ ^ | \\ !!! ... -- ?! ; : 😀 🎨🖼️ 👩‍🚀 🇫🇷 ❤️ antidisestablishmentarianism xxxxxxxxxxxxxxxx
"""


def random_texts(seed: int) -> Iterator[str]:
    """Generate five hundred texts of words, quotes, accents, emoji and numbers, some of them long, some empty."""
    chance, parts = random.Random(seed), PARTS.split()
    for i in range(500):
        count = chance.choice([0, 1, 2, 5, 9, 20]) if i % 25 else 150
        words = (chance.choice(parts) + chance.choice(["", "", "", ",", ".", "'", '"', "!", " "]) for _ in range(count))
        yield chance.choice(["", " ", "  "]) + " ".join(words)


def unpadded_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids = tokenizer.encode([text], 3000)[0]
    return ids[ids != 1].tolist()


def test_ids_are_those_of_min_dalle():
    vocabulary = json.loads((FIXTURE / "vocab.json").read_text(encoding="utf-8"))
    merges = (FIXTURE / "merges.txt").read_text(encoding="utf-8").split("\n")[1:-1]  # as min-dalle reads it
    theirs, ours = TextTokenizer(vocabulary, merges), read_tokenizer(FIXTURE, 1000, split_at_blanks=True)
    for text in random_texts(seed=1):
        assert unpadded_ids(ours, normalize_for_min_dalle(text)) == theirs.tokenize(text), text


def test_ids_are_those_of_transformers(tmp_path):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(FIXTURE / name, tmp_path)
    theirs = transformers.BartTokenizerFast.from_pretrained(str(tmp_path))
    ours = read_tokenizer(FIXTURE, 1000)
    texts = [*random_texts(seed=2)]
    for text, expected in zip(texts, theirs(texts)["input_ids"], strict=True):
        assert unpadded_ids(ours, text) == expected, text
    cut = theirs(texts, truncation=True, max_length=64, padding="max_length")["input_ids"]
    assert ours.encode(texts, 64).tolist() == cut
