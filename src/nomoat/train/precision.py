"""Whether a run may train through int8: measured on a few of its own rows before it starts.

Int8 is an approximation, so it has a gate: the gradient of every module's adapter must point where the one in float32
points (a cosine of at least 0.99), and the loss must be within 2 %. Where it does not hold, the logits go back to
float32, whose errors every gradient carries, and then layers from the bottom up, whose errors pass through all others.

float32 is the default, because the gate speaks of single steps and not of where a run ends. What int8 gains on a
machine is told by ``bench/profile_step.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator

import torch
from torch import Tensor

from nomoat.core.records import Note, Progress, Record
from nomoat.data.pack import Packed, pack
from nomoat.model import precision
from nomoat.model.adapters import Adapter
from nomoat.train.job import Job
from nomoat.train.prefix import computed
from nomoat.train.run import Settled
from nomoat.train.sft import SftBatches, sft_task, work_of

FLOAT32, INT8 = "float32", "int8"
CHOICES = (FLOAT32, INT8)
COSINE = 0.99
LOSS = 0.02  # of a step's own loss; what a run has learned is measured on the exact blocks
_TOKENS = 384  # of real rows that are measured
_STARTED = 0.02  # spread of the factors that start at zero, for the measurement: about that of a trained adapter
_SHARES = (0.0, 0.1, 0.2, 0.35, 0.5)  # of the layers in float32, tried in this order


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """How near a step in int8 is to the one in float32: lowest cosine of a module's gradients, change of the loss."""

    module: str
    cosine: float
    loss: float

    @property
    def passes(self) -> bool:
        return self.cosine >= COSINE and self.loss <= LOSS

    def __str__(self) -> str:
        return f"cosine {self.cosine:.4f} at {self.module}, loss {self.loss:.2%} off"


@dataclasses.dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a run multiplies by its frozen matrices in: layers under ``first_int8`` in float32, the others in int8.

    ``None``: all in float32. ``int8_head``: the logits too; their gradient is in int8 with the layers.
    """

    first_int8: int | None = None
    int8_head: bool = False


def choose_arithmetic(job: Job) -> Generator[Record, None, Arithmetic]:
    """Take the base to the arithmetic that the options ask for, as far as the gate lets it."""
    if job.options.precision == FLOAT32:
        return Arithmetic()
    gate = _Gate(job)
    found: list[Agreement] = []
    for arithmetic in _ladder(job):
        yield Progress("measuring what int8 changes", len(found), None)
        use(job, arithmetic)
        found.append(gate.measure())
        if found[-1].passes:
            yield Note(f"int8 holds on these rows ({found[-1]}){_exceptions(arithmetic, job, found[0])}")
            return arithmetic
    use(job, Arithmetic())
    yield Note(f"int8 does not hold on this base and these rows ({found[-1]}): training in float32", warning=True)
    return Arithmetic()


def _ladder(job: Job) -> list[Arithmetic]:
    """All in int8, then the logits in float32, then ever more layers too."""
    decoder = job.base.decoder
    layers = sorted({max(job.frozen_layers, round(share * decoder.config.n_layers)) for share in _SHARES})
    whole = [Arithmetic(layers[0], True)] if precision.head_fits(decoder) else []
    return whole + [Arithmetic(layer) for layer in layers]


def _exceptions(arithmetic: Arithmetic, job: Job, at_first: Agreement) -> str:
    """What stays in float32, and why."""
    first, lowest = arithmetic.first_int8 or 0, job.frozen_layers
    parts = [] if arithmetic.int8_head else ["the logits"]
    parts += [f"layers {lowest} to {first - 1}"] if first > lowest else []
    if not parts:
        return ""
    why = f"; with all in int8: {at_first}" if precision.head_fits(job.base.decoder) else ""
    return f"; {' and '.join(parts)} stay in float32{why}"


def arithmetic_of(settled: Settled) -> Arithmetic:
    """What was settled when a run began."""
    return Arithmetic(settled.first_int8, settled.int8_head)


def use(job: Job, arithmetic: Arithmetic) -> None:
    """Set the base to an arithmetic that was chosen before."""
    decoder, words = job.base.decoder, job.base.tokenizer
    if arithmetic.first_int8 is None:
        precision.use_float32(decoder)
        return
    first = words.bos_id if words.adds_bos else None
    precision.use_int8(decoder, first=first, lowest_layer=arithmetic.first_int8, head=arithmetic.int8_head)


class _Gate:
    """The loss and the gradients of some rows in float32, to hold those in int8 against."""

    def __init__(self, job: Job) -> None:
        layer = job.frozen_layers
        adapter = _started(job)
        batches = job.batches(job.options.pack_tokens)
        self._task = sft_task(
            job.base, adapter, batches, (), 1.0, computed(job.base, layer) if layer else None, under=job.under
        )
        self._piece = _piece(batches)
        use(job, Arithmetic())
        self._loss, self._gradients = self._step()

    def measure(self) -> Agreement:
        """The present arithmetic against float32."""
        loss, gradients = self._step()
        cosines = {
            name: torch.cosine_similarity(exact.flatten().double(), gradients[name].flatten().double(), 0).item()
            for name, exact in self._gradients.items()
        }
        worst = min(cosines, key=lambda name: cosines[name])
        return Agreement(worst.partition(".lora_")[0], cosines[worst], abs(loss - self._loss) / max(self._loss, 1e-6))

    def _step(self) -> tuple[float, dict[str, Tensor]]:
        parameters = self._task.parameters
        loss = self._task.loss(self._piece) / max(1, work_of(self._piece).learned)
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        return loss.item(), dict(zip(parameters, gradients, strict=True))


def _started(job: Job) -> Adapter:
    """An adapter like the run's that has learned something: at zero, half of the gradients would be zero too."""
    config = dataclasses.replace(job.adapter.config, init="kaiming")
    adapter = job.base.new_adapter(config, seed=job.options.seed, name="gate")
    generator = torch.Generator().manual_seed(job.options.seed)
    with torch.no_grad():
        for name, parameter in adapter.parameters().items():
            if ".lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * _STARTED)
    return adapter


def _piece(batches: SftBatches) -> Packed:
    """The first rows that the run learns, about ``_TOKENS`` of them, in one piece."""
    rows = [batches.rows[number] for number in batches.order(0)]
    taken = [rows[0]]
    for row in rows[1:]:
        if sum(len(each.ids) for each in taken) + len(row.ids) > _TOKENS:
            break
        taken.append(row)
    return pack(taken, sum(len(row.ids) for row in taken))[0]
