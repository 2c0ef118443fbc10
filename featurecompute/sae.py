"""A sparse autoencoder that keeps the few largest codes of a row (TopK).

In: rows of activations (n x d), a rank, how many codes may be active, steps and a seed.  Out: `Autoencoder`, tensors
only.  Knows no layer and no file.

z = top_k(relu((a − b)·W_e / s + c)), a ≈ s·z·D + b (Gao et al., 2024, arXiv 2406.04093, eq. 1), s the rows' mean norm
about b, D of unit rows. An atom that no row has used for a while takes the direction that the worst rows still lack
(resampling, after Bricken et al., 2023, Towards Monosemanticity).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from featurecompute.errors import DictionaryError

Progress: TypeAlias = Callable[[int, int], None]

BATCH = 1024
RATE = 3e-3
# Shares of the steps: the rate rises over the first, falls over the last; atoms are revived until the second begins.
_RISE, _FALL = 0.05, 0.3
_REVIVALS = 8
# Decoding by the active codes alone wins from about this many codes an active one (measured on a processor).
_SPARSE_FROM = 32


@dataclass(frozen=True)
class Autoencoder:
    """A TopK sparse autoencoder.

    Parameters
    ----------
    atoms
        Unit rows D (k x d).
    offset
        b (d,): taken off before encoding, added after decoding.
    encoder
        W_e, transposed (k x d).
    bias
        c (k,), in units of codes.
    active
        Codes that may be active at once.
    """

    atoms: Tensor
    offset: Tensor
    encoder: Tensor
    bias: Tensor
    active: int

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Tensor:
        """Return codes (n x k) >= 0 of rows (n x d), at most `active` of a row above zero."""
        return encode_topk(rows, self.offset, self.encoder, self.bias, self.active)

    def decode(self, codes: Tensor) -> Tensor:
        """Return rows (n x d)."""
        return codes @ self.atoms + self.offset


@torch.no_grad()
def encode_topk(rows: Tensor, offset: Tensor, encoder: Tensor, bias: Tensor, active: int) -> Tensor:
    """Return the codes of a TopK autoencoder: relu((a − b)·W_e + c), all but the largest `active` of a row zero."""
    codes = torch.addmm(bias, rows - offset, encoder.T).clamp_min_(0)
    kept = codes.topk(active, dim=1)
    return torch.zeros_like(codes).scatter_(1, kept.indices, kept.values)


def train_sae(
    rows: Tensor, rank: int, active: int, steps: int, *, seed: int = 0, progress: Progress | None = None
) -> Autoencoder:
    """Train a TopK sparse autoencoder with Adam; the same seed gives the same one.

    Parameters
    ----------
    rows
        Activations (n x d) of either sign, on any device.
    rank
        Number of atoms k.
    active
        Codes that may be active at once, at most `rank`.
    steps
        Steps of training, of up to `BATCH` rows each.
    seed
        Seed of the first atoms and of the batches.
    progress
        Called with steps done and all steps, a hundred times in all.

    Raises
    ------
    DictionaryError
        If more codes may be active than there are, or all rows are the same.
    """
    if not 1 <= active <= rank:
        raise DictionaryError(f"{active} codes cannot be active at once among {rank} atoms; allowed are 1 to {rank}.")
    generator = torch.Generator().manual_seed(seed)
    count = len(rows)
    centre = rows.mean(0, dtype=torch.float64).to(rows)
    scale = (rows - centre).norm(dim=1).mean(dtype=torch.float64).to(rows)
    if not float(scale) > 0:
        raise DictionaryError("every row of activations is the same: there is nothing to learn.")
    # Rows about their centre as first atoms: random directions leave more of them unused.
    chosen = torch.randperm(count, generator=generator)[:rank]
    first = ((rows[chosen.to(rows.device)] - centre) / scale).cpu()
    noise = torch.randn(rank, rows.shape[1], generator=generator).to(first)
    noise[: len(first)] = noise[: len(first)] * 1e-2 + first
    atoms = torch.nn.functional.normalize(noise, dim=1).to(rows.device)
    model = _Model(atoms, centre / scale, active)
    optimiser = torch.optim.Adam(model.parameters, lr=RATE, fused=rows.device.type in {"cpu", "cuda"})
    rise, fall = max(int(_RISE * steps), 1), max(int((1 - _FALL) * steps), 1)
    revive = max(fall // _REVIVALS, 25)
    used = torch.zeros(rank, dtype=torch.bool, device=rows.device)
    size = min(BATCH, count)
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = RATE * min((step + 1) / rise, 1.0, (steps - step) / max(steps - fall, 1))
        if len(order) < size:
            order = torch.randperm(count, generator=generator)
        batch, order = rows[order[:size].to(rows.device)] / scale, order[size:]
        with torch.enable_grad():
            loss, active_atoms = model.loss(batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            model.atoms /= model.atoms.norm(dim=1, keepdim=True)
            used[active_atoms] = True
        if step < fall and (step + 1) % revive == 0:
            _revive(model, optimiser, (~used).nonzero().flatten(), rows[: 8 * BATCH] / scale)
            used.zero_()
        if progress is not None and ((step + 1) % max(steps // 100, 1) == 0 or step + 1 == steps):
            progress(step + 1, steps)
    with torch.no_grad():
        # Codes in the rows' own units: (a/s − b)·W_e·s = (a − s b)·W_e.
        return Autoencoder(
            model.atoms.detach().clone(),
            model.offset.detach() * scale,
            model.encoder.detach().clone(),
            model.bias.detach() * scale,
            active,
        )


class _Model:
    """What is trained, on rows divided by their scale."""

    def __init__(self, atoms: Tensor, offset: Tensor, active: int) -> None:
        self.atoms = atoms.clone().requires_grad_()
        self.encoder = atoms.clone().requires_grad_()
        self.offset = offset.clone().requires_grad_()
        self.bias = atoms.new_zeros(len(atoms)).requires_grad_()
        self.parameters = [self.atoms, self.encoder, self.offset, self.bias]
        self.active = active

    def loss(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean squared error of a row, and the atoms whose codes are above zero."""
        before = torch.addmm(self.bias, batch - self.offset, self.encoder.T)
        kept = before.topk(self.active, dim=1)
        values = kept.values.relu()
        if len(self.atoms) >= _SPARSE_FROM * self.active:
            found = embedding_bag(kept.indices, self.atoms, per_sample_weights=values, mode="sum")
        else:
            found = torch.zeros_like(before).scatter(1, kept.indices, values) @ self.atoms
        loss = (batch - self.offset - found).square().sum(1).mean()
        return loss, kept.indices[values.detach() > 0]


@torch.no_grad()
def _revive(model: _Model, optimiser: torch.optim.Optimizer, dead: Tensor, rows: Tensor) -> None:
    """Give unused atoms the directions that the worst rows lack, each taken out of them before the next is chosen.

    The encoder's row takes the same direction, so the atom is used at once; Adam's memory of both is cleared.
    """
    if not len(dead):
        return
    codes = encode_topk(rows, model.offset, model.encoder, model.bias, model.active)
    rest = rows - model.offset - codes @ model.atoms
    rest = rest[rest.square().sum(1).topk(min(8 * len(dead), len(rest))).indices]
    for k in dead.tolist():
        norms = rest.norm(dim=1)
        place = int(norms.argmax())
        if not float(norms[place]) > 1e-6:
            return
        direction = rest[place] / norms[place]
        rest = rest - torch.outer((rest @ direction).clamp_min(0), direction)
        model.atoms[k], model.encoder[k], model.bias[k] = direction, direction, 0
        for parameter in (model.atoms, model.encoder, model.bias):
            state = optimiser.state[parameter]
            state["exp_avg"][k] = 0
            state["exp_avg_sq"][k] = 0
