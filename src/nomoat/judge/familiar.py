"""Does a judge prefer what it would have written itself?

Judges favour text that is likely to themselves, their own or not (Wataoka et al. 2024, "Self-Preference Bias in
LLM-as-a-Judge", arXiv 2410.21819; Panickssery et al. 2024, arXiv 2404.13076). It shows where the worse of two labelled
answers is the likelier one to the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nomoat.data.preferences import Preference
from nomoat.judge.measure import Measuring, Subject, losses
from nomoat.model.template import Encoded, prompt_ids

Familiar = Callable[[Sequence[Preference]], Measuring[list[bool]]]
"""For every pair, whether the worse answer is the one that the judge itself is likelier to give."""


def own_words(subject: Subject) -> Familiar:
    """By the mean log-likelihood per token of either answer as the judge's own reply."""

    def familiar(pairs: Sequence[Preference]) -> Measuring[list[bool]]:
        rows = [_row(subject, each, text) for each in pairs for text in (each.chosen, each.rejected)]
        found = yield from losses(subject, rows, "own words", rounded=True)
        means = [each.nll / max(1, each.tokens) for each in found]
        return [worse < better for better, worse in zip(means[::2], means[1::2])]

    return familiar


def _row(subject: Subject, pair: Preference, answer: str) -> Encoded:
    base = subject.base
    prompt = prompt_ids(base.tokenizer, base.template, pair.messages)
    said = base.tokenizer.encode(answer, specials=False)
    return Encoded([*prompt, *said], [False] * len(prompt) + [True] * len(said))
