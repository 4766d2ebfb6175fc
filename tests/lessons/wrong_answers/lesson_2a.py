"""Wrong answers to the exercises of lesson 2a, each of which must be told what is wrong in it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def negated(real_logits, fake_logits):
    return -(F.logsigmoid(real_logits).mean() + F.logsigmoid(-fake_logits).mean())


def summed(real_logits, fake_logits):
    return F.logsigmoid(real_logits).sum() + F.logsigmoid(-fake_logits).sum()


def same_term_twice(real_logits, fake_logits):
    return F.logsigmoid(real_logits).mean() + F.logsigmoid(fake_logits).mean()


def overflowing(real_logits, fake_logits):
    return real_logits.sigmoid().log().mean() + (1 - fake_logits.sigmoid()).log().mean()


def log_of_mean(real_logits, fake_logits):
    return real_logits.sigmoid().mean().log() + (1 - fake_logits.sigmoid().mean()).log()


def per_picture(real_logits, fake_logits):
    return F.logsigmoid(real_logits)


def logits_for_probabilities(real_logits, fake_logits):
    return real_logits.log().mean() + (1 - fake_logits).log().mean()


def weights_not_spared(generator, discriminator, z):
    return F.softplus(-discriminator(generator(z))).mean()


def left_frozen(generator, discriminator, z):
    discriminator.requires_grad_(False)
    return F.softplus(-discriminator(generator(z))).mean()


def pictures_detached(generator, discriminator, z):
    return F.softplus(-discriminator(generator(z).detach())).mean()


def no_gradient_at_all(generator, discriminator, z):
    with torch.no_grad():
        return F.softplus(-discriminator(generator(z))).mean()


def saturating(generator, discriminator, z):
    discriminator.requires_grad_(False)
    loss = -F.softplus(discriminator(generator(z))).mean()
    discriminator.requires_grad_(True)
    return loss


def wants_to_be_caught(generator, discriminator, z):
    return F.softplus(discriminator(generator(z))).mean()


def forgotten_return(generator, discriminator, z):
    F.softplus(-discriminator(generator(z))).mean()


def straight_line(start, end, shares):
    return torch.lerp(start, end, shares[:, None])


def backwards(start, end, shares):
    return arc(end, start, shares)


def unit_length(start, end, shares):
    return F.normalize(arc(start, end, shares), dim=1)


def pulled_out_line(start, end, shares):
    return F.normalize(torch.lerp(start, end, shares[:, None]), dim=1) * start.norm()


def one_point(start, end, shares):
    return arc(start, end, shares)[0]


def arc(start, end, shares):
    angle = torch.acos(F.cosine_similarity(start, end, dim=0))
    share = shares[:, None]
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / torch.sin(angle)


WRONG = {
    "2a.1": [negated, summed, same_term_twice, overflowing, log_of_mean, per_picture, logits_for_probabilities],
    "2a.2": [1.0, 0.0067379, 0.0066929, 0.9933071, 746.0, 150.2, 50.0],
    "2a.3": [
        weights_not_spared,
        left_frozen,
        pictures_detached,
        no_gradient_at_all,
        saturating,
        wants_to_be_caught,
        forgotten_return,
    ],
    "2a.4": [straight_line, backwards, unit_length, pulled_out_line, one_point],
}


def loss_with_log_of_sigmoid(real: Tensor, fake: Tensor) -> Tensor:
    return -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()


def loss_with_labels_swapped(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(real).mean() + F.softplus(-fake).mean()


def loss_over_all_pictures(real: Tensor, fake: Tensor) -> Tensor:
    return torch.cat([F.softplus(-real), F.softplus(fake)]).mean()


def loss_of_real_pictures(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean()


def saturating(fake: Tensor) -> Tensor:
    return F.logsigmoid(-fake).mean()


def generator_loss_with_log_of_sigmoid(fake: Tensor) -> Tensor:
    return -fake.sigmoid().log().mean()


def generator_loss_of_logits(fake: Tensor) -> Tensor:
    return -fake.mean()


def generator_loss_as_sum(fake: Tensor) -> Tensor:
    return F.softplus(-fake).sum()


def loss_of_each_picture(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real) + F.softplus(fake)


def loss_with_log_of_logits(real: Tensor, fake: Tensor) -> Tensor:
    return -real.log().mean() - (1 - fake).log().mean()


def loss_as_constant(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real.detach()).mean() + F.softplus(fake).mean()


def generator_loss_with_log_of_mean(fake: Tensor) -> Tensor:
    return -fake.sigmoid().mean().log()


def generator_loss_as_constant(fake: Tensor) -> Tensor:
    return F.softplus(-fake.detach()).mean()


WRONG_PIECES = {
    "2a.discriminator_loss": [
        loss_of_each_picture,
        loss_with_log_of_logits,
        loss_as_constant,
        loss_with_log_of_sigmoid,
        loss_with_labels_swapped,
        loss_over_all_pictures,
        loss_of_real_pictures,
    ],
    "2a.generator_loss": [
        saturating,
        generator_loss_with_log_of_sigmoid,
        generator_loss_of_logits,
        generator_loss_as_sum,
        generator_loss_with_log_of_mean,
        generator_loss_as_constant,
    ],
}
