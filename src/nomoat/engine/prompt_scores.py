"""Log-probabilities of a prompt's own tokens, gathered while it is read."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, tensor

from nomoat.engine.request import PromptScores, Top


class PromptScorer:
    """Collects one entry for every token of ``prompt`` after the first, in pieces of any size and order."""

    def __init__(self, prompt: Sequence[int], n_top: int) -> None:
        self._prompt, self._n_top = prompt, n_top
        n = len(prompt) - 1
        self._logprobs, self._greedy = [0.0] * n, [False] * n
        self._top: list[Top] = [()] * n

    def add(self, start: int, logits: Tensor) -> None:
        """Take logits (n, V) of the positions from ``start`` on; those at the end that predict no prompt token, not."""
        n = min(logits.shape[0], len(self._prompt) - 1 - start)
        if n <= 0:
            return
        logprobs = logits[:n].log_softmax(-1)
        targets = tensor(self._prompt[start + 1 : start + 1 + n])
        at = slice(start, start + n)
        self._logprobs[at] = logprobs.gather(1, targets[:, None])[:, 0].tolist()
        self._greedy[at] = (logprobs.argmax(1) == targets).tolist()
        if self._n_top:
            values, ids = logprobs.topk(min(self._n_top, logprobs.shape[1]))
            self._top[at] = [tuple(zip(*pair)) for pair in zip(ids.tolist(), values.tolist())]

    def scores(self) -> PromptScores:
        return PromptScores(self._logprobs, self._greedy, self._top)
