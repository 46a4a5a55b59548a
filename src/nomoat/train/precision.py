"""Which arithmetic a run trains in: measured on a few of its own rows before it starts.

bfloat16 and int8 are approximations, so they have a gate: the gradient of every module's adapter must point where the
one in float32 points (a cosine of at least 0.99), and the loss must be within 2 %. Where int8 does not hold, the logits
go back to float32, whose errors every gradient carries, and then layers from the bottom up, whose errors pass through
all others.

``auto`` means bfloat16 where the processor has tiles for it; else int8 where it has instructions for that and memory
for the copies; else float32. Whole runs in either end within half a percent of float32's held-out loss (LOG.md,
``bench/modes.py rounding``). What either gains on a machine is told by ``bench/profile_step.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator

import torch
from torch import Tensor

from nomoat.core.machine import memory
from nomoat.core.records import Note, Progress, Record
from nomoat.data.pack import Packed, pack
from nomoat.kernels import int8_native, native
from nomoat.model import precision
from nomoat.model.adapters import Adapter
from nomoat.model.template import Encoded
from nomoat.train.job import Job
from nomoat.train.prefix import computed
from nomoat.train.run import Settled
from nomoat.train.sft import SftBatches, work_of

AUTO, FLOAT32, BFLOAT16, INT8 = "auto", "float32", "bfloat16", "int8"
COSINE = 0.99
LOSS = 0.02  # of a step's own loss; what a run has learned is measured on the exact blocks
_TOKENS = 384  # of real rows that are measured, and more where so many teach little:
_LEARNED = 16  # tokens with a loss; the loss of one or two of them moves further by rounding than that of a step
_MOST_TOKENS = 2048
_STARTED = 0.02  # spread of the factors that start at zero, for the measurement: about that of a trained adapter
_COPIES = 0.25  # of the memory at hand: what ``auto`` spends on int8 copies
_SHARES = (0.0, 0.1, 0.2, 0.35, 0.5)  # of the layers in float32, tried in this order


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """How near a quick step is to the one in float32: lowest cosine of a module's gradients, change of the loss."""

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
    """What a run multiplies by its frozen matrices in.

    In int8 the layers under ``first_layer`` stay in float32, and the logits too unless ``logits``; their gradient is in
    int8 with the layers.
    """

    precision: str = FLOAT32
    first_layer: int = 0
    logits: bool = True

    def __str__(self) -> str:
        layers = f"{self.precision} from layer {self.first_layer} on" if self.first_layer else self.precision
        return layers if self.logits else f"{layers}, logits in float32"


def choose_arithmetic(job: Job) -> Generator[Record, None, Arithmetic]:
    """Take the base to the arithmetic that the options ask for, as far as the gate lets it."""
    wanted = job.options.precision
    if wanted == AUTO:
        wanted = _quickest(job)
    if wanted == FLOAT32:
        return Arithmetic()
    if wanted == BFLOAT16 and not native.has_tiles():
        yield Note("this processor has no tiles of bfloat16: float32 and int8 are faster here", warning=True)
    gate = _Gate(job)
    found: list[Agreement] = []
    for arithmetic in [Arithmetic(BFLOAT16)] if wanted == BFLOAT16 else _int8_ladder(job):
        yield Progress(f"measuring what {wanted} changes", len(found), None)
        use(job, arithmetic)
        found.append(gate.measure())
        if found[-1].passes:
            yield Note(f"{wanted} holds on these rows ({found[-1]}){_exceptions(arithmetic, job, found[0])}")
            return arithmetic
    use(job, Arithmetic())
    yield Note(f"{wanted} does not hold on this base and these rows ({found[-1]}): training in float32", warning=True)
    return Arithmetic()


def _quickest(job: Job) -> str:
    """What ``auto`` means on this machine for this base."""
    if native.has_tiles():
        return BFLOAT16
    at_hand = job.options.memory_bytes or memory().available_bytes
    fits = precision.int8_bytes(job.base.decoder) <= _COPIES * at_hand
    return INT8 if fits and int8_native.makes_quick_steps() else FLOAT32


def _int8_ladder(job: Job) -> list[Arithmetic]:
    """All in int8, then the logits in float32, then ever more layers too."""
    decoder = job.base.decoder
    layers = sorted({max(job.frozen_layers, round(share * decoder.config.n_layers)) for share in _SHARES})
    whole = [Arithmetic(INT8, layers[0])] if precision.head_fits(decoder) else []
    return whole + [Arithmetic(INT8, layer, logits=False) for layer in layers]


def _exceptions(arithmetic: Arithmetic, job: Job, at_first: Agreement) -> str:
    """What stays in float32, and why."""
    first, lowest = arithmetic.first_layer, job.frozen_layers
    parts = [] if arithmetic.logits else ["the logits"]
    parts += [f"layers {lowest} to {first - 1}"] if first > lowest else []
    if not parts:
        return ""
    why = f"; with all in int8: {at_first}" if precision.head_fits(job.base.decoder) else ""
    return f"; {' and '.join(parts)} stay in float32{why}"


def arithmetic_of(settled: Settled) -> Arithmetic:
    """What was settled when a run began."""
    return Arithmetic(settled.precision, settled.first_layer, settled.logits)


def use(job: Job, arithmetic: Arithmetic) -> None:
    """Set the base to an arithmetic that was chosen before."""
    decoder, words = job.base.decoder, job.base.tokenizer
    if arithmetic.precision == INT8:
        first = words.bos_id if words.adds_bos else None
        precision.use_int8(decoder, first=first, lowest_layer=arithmetic.first_layer, head=arithmetic.logits)
    elif arithmetic.precision == BFLOAT16:
        precision.use_bfloat16(decoder)
    else:
        precision.use_float32(decoder)


class _Gate:
    """The loss and the gradients of some rows in float32, to hold quicker ones against."""

    def __init__(self, job: Job) -> None:
        layer = job.frozen_layers
        batches = job.batches(job.options.pack_tokens)
        measured = dataclasses.replace(job, adapter=_started(job), held_out=[], teacher=None)
        self._task = measured.task(batches, computed(job.base, layer) if layer else None)
        self._piece = measured_piece(batches)
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


def measured_piece(batches: SftBatches) -> Packed:
    """The first rows that the run learns: some ``_TOKENS`` tokens, more until ``_LEARNED`` of them are learned."""
    order, group = batches.order(0), batches.group
    taken: list[Encoded] = []
    tokens = learned = 0
    for first in range(0, len(order), group):
        together = [batches.rows[number] for number in order[first : first + group]]
        more = sum(len(row.ids) for row in together)
        if taken and tokens + more > (_TOKENS if learned >= _LEARNED else _MOST_TOKENS):
            break
        taken += together
        tokens += more
        learned += sum(len(row.learned) for row in together)
    return pack(taken, tokens, group=group)[0]
