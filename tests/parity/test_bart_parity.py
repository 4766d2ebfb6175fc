"""With the same random weights `Bart` and the reference implementations compute the same.

The weights have the names of the published files: min-dalle's encoder.pt and decoder.pt, which have no entry for norms
without scale, and the state dict of a BartForConditionalGeneration.
"""

import pytest
import torch
import transformers
from atelier.blocks.bart import Bart, BartConfig
from their_min_dalle import DalleBartDecoder, DalleBartEncoder
from torch import Tensor, nn

Weights = dict[str, Tensor]

# min-dalle's classes support only 256 codes and, in the encoder, only two texts.
TINY_DALLE = BartConfig(
    text_vocabulary=60,
    target_vocabulary=50,
    text_length=10,
    target_length=256,
    width=32,
    heads=4,
    inner_width=44,
    encoder_layers=2,
    decoder_layers=3,
)
TINY_BART = BartConfig(
    text_vocabulary=60,
    target_vocabulary=60,
    text_length=20,
    target_length=20,
    width=32,
    heads=4,
    inner_width=48,
    encoder_layers=2,
    decoder_layers=3,
    start_token=2,
    normformer=False,
    glu=False,
    bias=True,
    shared_embedding=True,
    final_logits_bias=True,
    position_offset=2,
)
WITHOUT_SCALE = ("pre_self_attn_layer_norm", "pre_encoder_attn_layer_norm", "glu.ln0", "glu.ln1", "final_ln")


def from_min_dalle(encoder: Weights, decoder: Weights) -> Weights:
    """Rename the entries of min-dalle's two files to those of `Bart`."""
    weights = {f"encoder.{name}": value for name, value in encoder.items()}
    weights |= {f"decoder.{name}": value for name, value in decoder.items()}
    renamed = {
        "encoder.embed_tokens.": "text_embedding.",
        "decoder.embed_tokens.": "target_embedding.",
        "decoder.lm_head.": "lm_head.",
        ".glu.": ".ffn.",
    }
    return rename(weights, renamed)


def from_transformers(weights: Weights) -> Weights:
    """Rename the entries of a BartForConditionalGeneration, which lists its one embedding four times, to `Bart`'s."""
    copies = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    assert {weights[name].data_ptr() for name in copies} == {weights["model.shared.weight"].data_ptr()}
    renamed = {"model.shared.": "text_embedding.", "model.": "", ".fc1.": ".ffn.fc1.", ".fc2.": ".ffn.fc2."}
    return rename({name: value for name, value in weights.items() if name not in copies}, renamed)


def rename(weights: Weights, renamed: dict[str, str]) -> Weights:
    result = {}
    for name, value in weights.items():
        for old, new in renamed.items():
            name = name.replace(old, new)
        result[name] = value
    return result


def min_dalle_models(config: BartConfig, device: str = "cpu") -> tuple[DalleBartEncoder, DalleBartDecoder]:
    encoder = DalleBartEncoder(
        layer_count=config.encoder_layers,
        embed_count=config.width,
        attention_head_count=config.heads,
        text_vocab_count=config.text_vocabulary,
        text_token_count=config.text_length,
        glu_embed_count=config.inner_width,
        device=device,
    )
    decoder = DalleBartDecoder(
        image_vocab_count=config.target_vocabulary,
        embed_count=config.width,
        attention_head_count=config.heads,
        glu_embed_count=config.inner_width,
        layer_count=config.decoder_layers,
        device=device,
    )
    return encoder.eval(), decoder.eval()


def published(model: nn.Module) -> Weights:
    """The entries of a model that min-dalle's files have: all but the scales of norms without scale."""
    absent = tuple(f"{norm}.weight" for norm in WITHOUT_SCALE)
    return {name: value for name, value in model.state_dict().items() if not name.endswith(absent)}


def randomise(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not name.endswith(tuple(f"{norm}.weight" for norm in WITHOUT_SCALE)):
            nn.init.normal_(parameter, std=0.3)


def shapes(weights: Weights) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.fixture(scope="module")
def dalle() -> tuple[Bart, DalleBartEncoder, DalleBartDecoder]:
    torch.manual_seed(0)
    encoder, decoder = min_dalle_models(TINY_DALLE)
    randomise(encoder)
    randomise(decoder)
    bart = Bart(TINY_DALLE).eval()
    bart.load_state_dict(from_min_dalle(published(encoder), published(decoder)))
    return bart, encoder, decoder


@pytest.fixture(scope="module")
def texts() -> Tensor:
    """The two rows of super-conditioning: the empty caption, and a caption with padding."""
    return torch.tensor([[0, 2, 1, 1, 1, 1, 1, 1, 1, 1], [0, 17, 44, 5, 9, 31, 2, 1, 1, 1]])


@torch.no_grad()
def test_min_dalle_gives_the_same_encoder_states(dalle, texts):
    bart, encoder, _ = dalle
    assert_same(bart.encode(texts), encoder(texts))


@torch.no_grad()
def test_min_dalle_gives_the_same_logits(dalle, texts):
    bart, encoder, decoder = dalle
    codes = torch.randint(50, (1, 40), generator=torch.Generator().manual_seed(3))
    tokens = bart.shift(codes)
    theirs, _ = decoder(
        attention_mask=bart.text_mask(texts)[:, None, None],
        encoder_state=encoder(texts),
        attention_state=torch.zeros(3, 4, 256, 32),
        prev_tokens=tokens,
        token_index=torch.arange(40),
    )
    assert_same(bart(texts, codes.expand(2, -1)), theirs)


@torch.no_grad()
@pytest.mark.parametrize("start_token", [50, 49])
def test_min_dalle_gives_the_same_greedy_codes(dalle, texts, start_token):
    """Two pictures of one prompt with guidance 3. Their code uses a cache; ours computes all positions each time."""
    bart, encoder, decoder = dalle
    steps, guidance = 24, 3.0
    settings = torch.tensor([1.0, 1, guidance])  # temperature, top k, guidance: top 1 is greedy
    mask = bart.text_mask(texts)
    both = [0, 0, 1, 1]
    theirs, memory = torch.full((2, steps + 1), start_token), torch.zeros(3, 8, 256, 32)
    for i in range(steps):
        theirs[:, i + 1], memory = decoder.sample_tokens(
            settings=settings,
            attention_mask=mask[both][:, None, None],
            encoder_state=encoder(texts)[both],
            attention_state=memory,
            prev_tokens=theirs[:, [i]],
            token_index=torch.tensor([i]),
        )
    ours = torch.full((2, 1), start_token)
    text_kv = bart.project(bart.encode(texts))
    for _ in range(steps):
        unconditional, conditional = bart.decode(ours.repeat(2, 1), text_kv, mask)[:, -1].chunk(2)
        ours = torch.cat(
            [ours, (unconditional + guidance * (conditional - unconditional)).argmax(dim=-1, keepdim=True)], dim=1
        )
    assert torch.equal(ours, theirs)
    assert len(set(ours[0].tolist())) > 5


@pytest.mark.parametrize("config", [BartConfig.dalle_mini(), BartConfig.dalle_mega()], ids=["mini", "mega"])
def test_min_dalle_at_full_size_has_the_same_entries(config):
    with torch.device("meta"):
        bart = Bart(config)
        encoder, decoder = min_dalle_models(config, "meta")
    assert shapes(bart.state_dict()) == shapes(from_min_dalle(published(encoder), published(decoder)))


def transformers_bart(config: BartConfig) -> transformers.BartForConditionalGeneration:
    return transformers.BartForConditionalGeneration(
        transformers.BartConfig(
            vocab_size=config.text_vocabulary,
            max_position_embeddings=config.text_length,
            d_model=config.width,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            encoder_attention_heads=config.heads,
            decoder_attention_heads=config.heads,
            encoder_ffn_dim=config.inner_width,
            decoder_ffn_dim=config.inner_width,
        )
    ).eval()


@pytest.fixture(scope="module")
def original() -> tuple[Bart, transformers.BartForConditionalGeneration]:
    torch.manual_seed(0)
    reference = transformers_bart(TINY_BART)
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.3)
    reference.final_logits_bias.normal_()
    bart = Bart(TINY_BART).eval()
    bart.load_state_dict(from_transformers(reference.state_dict()))
    return bart, reference


@pytest.fixture(scope="module")
def captions() -> Tensor:
    return torch.tensor([[0, 33, 21, 2, 1, 1, 1], [0, 17, 44, 5, 9, 31, 2]])


@torch.no_grad()
def test_transformers_gives_the_same_logits(original, captions):
    bart, reference = original
    targets = torch.randint(4, 60, (2, 12), generator=torch.Generator().manual_seed(3))
    theirs = reference(input_ids=captions, attention_mask=bart.text_mask(captions).long(), labels=targets)
    real = bart.text_mask(captions)
    assert_same(bart.encode(captions)[real], theirs.encoder_last_hidden_state[real])
    assert_same(bart(captions, targets), theirs.logits)


@torch.no_grad()
def test_transformers_gives_the_same_greedy_tokens(original, captions):
    bart, reference = original
    steps, mask = 12, bart.text_mask(captions)
    theirs = reference.generate(
        captions,
        attention_mask=mask.long(),
        max_new_tokens=steps,
        do_sample=False,
        num_beams=1,
        eos_token_id=None,
        forced_eos_token_id=None,
    )
    ours = torch.full((2, 1), 2)
    text_kv = bart.project(bart.encode(captions))
    for _ in range(steps):
        ours = torch.cat([ours, bart.decode(ours, text_kv, mask)[:, -1:].argmax(dim=-1)], dim=1)
    assert torch.equal(ours, theirs)


def test_bart_base_has_the_same_entries():
    with torch.device("meta"):
        bart, reference = Bart(BartConfig.bart_base()), transformers_bart(BartConfig.bart_base())
    theirs = from_transformers(reference.state_dict())
    assert shapes(bart.state_dict()) == shapes(theirs)
