"""Self-contained HTML pages from the templates of this room. Everything that is not ours is escaped."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

from nomoat.judge import units

LONGEST_TEXT: Final = 700


def template(name: str, *parts: str) -> Template:
    """The template ``name``, which may import ``parts``."""
    environment = Environment(
        loader=DictLoader({each: _source(each) for each in (name, *parts)}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        share=units.share,
        whole_share=units.whole_share,
        duration=units.duration,
        size=units.size,
        count=units.count,
        clip=clip,
    )
    return environment.get_template(name)


def style(*names: str) -> Markup:
    """Style sheets, to be set into the page."""
    return Markup("\n".join(_source(name) for name in names))


def clip(text: str) -> str:
    """A text short enough to read; says what it left out."""
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]} ... ({len(text) - LONGEST_TEXT:,} more characters)"


def _source(name: str) -> str:
    return files("nomoat.judge").joinpath("templates", name).read_text(encoding="utf-8")
