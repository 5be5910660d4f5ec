"""What the code of the searches' authors computes, as formulas of a few lines: the obvious oracle of each search.

A formula takes the name, the scores and the frozen weights of a layer. It returns the weight of the layer, from which
autograd finds the gradient of the scores, and the entries of its mask. It keeps round(density x n) weights, and the
first among equal scores, as the searches do. The authors round the number in other ways, which is one weight more in
some layers, and keep or drop all that tie at a threshold.
"""

import torch


def straight_through(hard, soft):
    """Return the value of `hard` with the gradient of `soft`."""
    # the bracket is exactly 0; added up from the left, the sum would round in the seventh digit
    return hard + (soft - soft.detach())


def largest(ranks, kept):
    """Return 1 at the `kept` largest ranks and 0 elsewhere; among equal ranks the first are kept."""
    order = ranks.detach().flatten().sort(descending=True, stable=True).indices
    return torch.zeros_like(ranks.detach()).flatten().index_fill(0, order[:kept], 1.0).view(ranks.shape)


def edge_popup(density, *, signed=False):
    """Ramanujan et al. 2020, section 3.2: w = W h(|s|), h a step function with the gradient of the identity.

    With `signed`, w = W h(s): so does IteRand (Chijiwa et al. 2021).
    """

    def formula(name, score, frozen):
        rank = score if signed else score.abs()
        mask = largest(rank, round(density * rank.numel()))
        return frozen * straight_through(mask, rank), mask

    return formula


def biprop(density, real):
    """Diffenderfer & Kailkhura 2021, algorithm 1: w = sign(W) alpha m, alpha the mean of |W| over the kept weights.

    The gradient takes alpha for a constant and the real weights for the binary ones: dL/ds = dL/dw W sign(s).
    """

    def formula(name, score, frozen):
        kept, sizes = round(density * score.numel()), real[name].abs()
        mask = largest(score.abs(), kept)
        alpha = (sizes * mask).sum() / kept
        return real[name].sign() * straight_through(alpha * mask, sizes * score.abs()), mask

    return formula


def signed(*, density=None, threshold=None):
    """Koster et al. 2022: w = W m, m = sign(s) where |s| is large and 0 elsewhere, with the gradient of s."""

    def formula(name, score, frozen):
        size = score.abs().detach()
        large = (size > threshold).to(size) if density is None else largest(size, round(density * size.numel()))
        signs = large * score.detach().sign()
        return frozen * straight_through(signs, score), signs

    return formula


def multicoated(density, fractions):
    """Okoshi et al. 2022: w = W (m_1 + ... + m_N), each coat a mask of edge-popup with a density of its own."""

    def formula(name, score, frozen):
        rank = score.abs()
        masks = [largest(rank, round(density * fraction * rank.numel())) for fraction in fractions]
        return frozen * sum(straight_through(mask, rank) for mask in masks), sum(masks)

    return formula


def partially_frozen(density, fixed, *, signed=False):
    """Otsuka et al. 2025, section 3: edge-popup whose ranks are infinite where the mask is fixed.

    `fixed` holds by layer which entries are free, and which of the others are kept.
    """

    def formula(name, score, frozen):
        rank, (free, locked) = score if signed else score.abs(), fixed[name]
        ends = torch.full_like(rank, -torch.inf).masked_fill(locked, torch.inf)
        mask = largest(torch.where(free, rank, ends), round(density * rank.numel()))
        return frozen * straight_through(mask, rank), mask

    return formula


def learned(sample, *, rescaled):
    """Zhou et al. 2019, sections 5.1 and 5.2: m ~ Bernoulli(sigmoid(s)) with the gradient of sigmoid(s).

    With `rescaled`, weights are multiplied by n / sum(m), and autograd goes through that factor too, as in the authors'
    code. `sample` returns the drawn mask of a layer.
    """

    def formula(name, score, frozen):
        drawn = sample(name)
        mask = straight_through(drawn.to(score.dtype), score.sigmoid())
        gain = mask.numel() / mask.sum() if rescaled else 1.0
        return frozen * gain * mask, drawn

    return formula


def grouped(density, group_of):
    """Edge-popup over the sums of |s| in groups of weights; `group_of` numbers the groups of a shape from 0."""

    def formula(name, score, frozen):
        group = group_of(*score.shape)
        sums = score.new_zeros(int(group.max()) + 1).index_add(0, group.flatten(), score.abs().flatten())
        kept = largest(sums, round(density * sums.numel()))
        return frozen * straight_through(kept[group], sums[group]), kept[group]

    return formula


def n_of_m(n, m):
    """Edge-popup among each m neighbours of a row, which is a multiple of m long."""

    def formula(name, score, frozen):
        rank = score.abs()
        order = rank.detach().view(-1, m).sort(dim=1, descending=True, stable=True).indices
        mask = torch.zeros_like(rank.detach()).view(-1, m).scatter(1, order[:, :n], 1.0).view(rank.shape)
        return frozen * straight_through(mask, rank), mask

    return formula


class GemMining:
    """Sreenivasan et al. 2022, algorithm 1: m = (s > 1/2), s in [0, 1], the lowest frozen out at the end of a period.

    Args:
        density: share of all weights that is live in the end.
        penalty: this, times |s|^2, is added to the loss. The authors pull the scores that were frozen out too, which
            changes no mask; here they are left alone.
        steps: in all.
        period: steps after which weights are frozen out.

    """

    def __init__(self, density, penalty, *, steps, period):
        self.density, self.strength, self.steps, self.period = density, penalty, steps, period
        self.live = {}

    def formula(self, name, score, frozen):
        live = self.live.setdefault(name, torch.ones_like(score.detach()))
        mask = (score > 0.5).to(score.dtype) * live
        return frozen * straight_through(mask, score * live), mask

    def penalty(self, scores):
        return self.strength * sum((score * self.live[name]).square().sum() for name, score in scores.items())

    def after(self, step, scores, frozen):
        for score in scores.values():
            score.clamp_(0.0, 1.0)
        share = live_share(step, density=self.density, steps=self.steps, period=self.period)
        if share is None:
            return
        ranks = torch.cat([torch.where(self.live[name] > 0, score, -1.0).flatten() for name, score in scores.items()])
        chosen = largest(ranks, round(share * ranks.numel())).split([score.numel() for score in scores.values()])
        self.live = {name: part.view(scores[name].shape) for name, part in zip(scores, chosen, strict=True)}


def live_share(step, *, density, steps, period):
    """Return the share of weights that stays live after a step, or None where no period ends: the formula of GemMiner.

    All periods but the last end with a freeze.
    """
    freezes = steps // period - 1
    return density ** (step / (freezes * period)) if step % period == 0 and step <= freezes * period else None
