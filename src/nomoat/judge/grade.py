"""``grade``: a judge that passed its exam rates one model's answers by a rubric, answer by answer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.core.errors import UsageError
from nomoat.core.records import Done, Record, Saved
from nomoat.core.store import Store
from nomoat.engine.names import open_stack
from nomoat.judge.contest import Said, answered, contestant_name, read_topics
from nomoat.judge.examine import sit_exam
from nomoat.judge.examinee import Examinee, reads_of, within_context
from nomoat.judge.familiar import own_words
from nomoat.judge.grading import Exhibit, Rubric, asks, grading_judge, ratings
from nomoat.judge.manner import room_for
from nomoat.judge.measure import Subject
from nomoat.judge.mt_bench import Score
from nomoat.judge.rated import read_rated
from nomoat.judge.reward import is_reward_model
from nomoat.judge.saved import save_scores
from nomoat.judge.statistics import bootstrap, rank_correlation
from nomoat.judge.topics import Topic, all_said
from nomoat.judge.verdict_options import GradeOptions
from nomoat.model.template import prompt_ids

_SCALE = re.compile(r"(\d+)-(\d+)")
_CLOSING = 8  # tokens of the rating itself


def grade(options: GradeOptions, store: Store) -> Generator[Record]:
    """Examine the judge, then rate every answer; the last record is ``Done`` with the ratings.

    Raises ``UsageError``, ``NotFound``, ``DataError``.
    """
    rubric = rubric_of(options.rubric, options.scale)
    topics = read_topics(store, options.data, options.limit, options.references)
    judge = _opened(options.judge, store)
    grader = Examinee(
        lambda manner: grading_judge(judge, rubric, written=manner == "written"), reads_of(judge), own_words(judge)
    )
    sat = yield from sit_exam(
        grader, store, options.pairs, manner=options.verdict, limit=options.exam_limit, seed=options.seed
    )
    marking = _Marking(judge, rubric, sat.manner == "written")
    labels = yield from _beside_labels(marking, options)
    name = contestant_name(options.model)
    said = yield from answered(options.model, topics, store, max_tokens=options.max_tokens, max_batch=options.max_batch)
    scores = yield from _rated(marking, topics, said, name)
    if options.save:
        folder = Path(options.save).expanduser()
        save_scores(folder, name, said, scores, options.judge)
        yield Saved(folder, "answers and ratings")
    result = {
        "model": name,
        "judge": options.judge,
        "verdict": sat.manner,
        "scale": [rubric.lowest, rubric.highest],
        "data": Path(options.data).name,
        "questions": len({each.question for each in scores}),
        "skipped": sum(topic.turns for topic in topics) - len(scores),
        "exam": sat.exam.as_dict(),
        "labels": labels,
        "withheld": sat.exam.withheld,
        "means": _means(scores, topics, options.seed) if sat.exam.passed else {},
        "ratings": [dataclasses.asdict(each) for each in scores],
    }
    yield Done("grade", None, result)


def _opened(spec: str, store: Store) -> Subject:
    """The judge. Raises ``UsageError`` for one that follows no rubric."""
    judge = Subject(*open_stack(store, spec), "judge", store)
    if is_reward_model(judge):
        raise UsageError(
            f"{spec} is a reward model: its numbers have no scale and follow no rubric",
            hint="nomoat duel and nomoat rank compare by it",
        )
    return judge


@dataclasses.dataclass(frozen=True, slots=True)
class _Marking:
    """A judge with its rubric; ``written``: in words, a rating at their end."""

    judge: Subject
    rubric: Rubric
    written: bool

    def fits(self, exhibit: Exhibit) -> bool:
        """Whether the judge can read it and still say its rating."""
        base = self.judge.base
        asked = prompt_ids(base.tokenizer, base.template, asks(exhibit, self.rubric, written=self.written))
        room = room_for("written" if self.written else "likelihood")
        return len(asked) + room + _CLOSING < base.decoder.config.max_seq_len

    def rate(self, exhibits: Sequence[Exhibit]) -> Generator[Record, None, list[float]]:
        """A rating for each."""
        return ratings(self.judge, self.rubric, exhibits, written=self.written)


def _rated(marking: _Marking, topics: Sequence[Topic], said: Said, name: str) -> Generator[Record, None, list[Score]]:
    """Ratings of every turn that the judge can read. Raises ``UsageError`` where it can read none."""
    shown = [
        (topic.key, turn, _exhibit(topic, turn, said[topic.key]))
        for topic in topics
        if topic.key in said
        for turn in range(topic.turns)
    ]
    kept = yield from within_context(shown, lambda each: marking.fits(each[2]), "answers")
    found = yield from marking.rate([exhibit for _, _, exhibit in kept])
    return [Score(key, turn + 1, name, round(rate, 4)) for (key, turn, _), rate in zip(kept, found)]


def rubric_of(path: str, scale: str) -> Rubric:
    """The rubric of the options. Raises ``UsageError`` for a file or a scale that is none."""
    match = _SCALE.fullmatch(scale.strip())
    if match is None:
        raise UsageError(f"--scale cannot be {scale!r}", hint="write it as 1-10")
    bounds = int(match[1]), int(match[2])
    if not path:
        return dataclasses.replace(Rubric(), lowest=bounds[0], highest=bounds[1])
    try:
        text = Path(path).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--rubric {path} cannot be read: {error}", hint="a text file in UTF-8") from error
    return Rubric(text.strip(), *bounds)


def _beside_labels(marking: _Marking, options: GradeOptions) -> Generator[Record, None, dict[str, Any] | None]:
    """Spearman's rank correlation with labelled scores, which the scale does not matter to."""
    if not options.scores:
        return None
    rated = read_rated(Path(options.scores).expanduser())
    labelled = [each for each in rated if marking.fits(each.exhibit)][: options.exam_limit or None]
    if len(labelled) < 3:
        raise UsageError(f"{options.scores} has {len(labelled)} rated answers that the judge can read; 3 are the least")
    found = yield from marking.rate([each.exhibit for each in labelled])
    theirs = np.array([each.score for each in labelled])
    return {
        "answers": len(labelled),
        "correlation": rank_correlation(np.array(found), theirs, seed=options.seed).as_dict(),
    }


def _exhibit(topic: Topic, turn: int, said: Sequence[str]) -> Exhibit:
    messages = topic.conversation(said[:turn])
    return Exhibit(messages, said[turn], all_said(topic.references[: turn + 1]))


def _means(scores: Sequence[Score], topics: Sequence[Topic], seed: int) -> dict[str, dict[str, float]]:
    """Mean ratings: over all, by turn and by category; questions are resampled, since their turns go together."""
    categories = {topic.key: topic.category for topic in topics}
    groups: dict[str, dict[str, list[float]]] = {"all": {}}
    several = len({each.turn for each in scores}) > 1
    for each in scores:
        names = ["all", *([f"turn {each.turn}"] if several else []), categories.get(each.question, "")]
        for name in filter(None, names):
            groups.setdefault(name, {}).setdefault(each.question, []).append(each.score)
    means = {}
    for name, questions in groups.items():
        sums = np.array([sum(each) / len(each) for each in questions.values()])
        sizes = np.array([float(len(each)) for each in questions.values()])
        means[name] = bootstrap(sums, sizes, seed=seed).as_dict()
    return means
