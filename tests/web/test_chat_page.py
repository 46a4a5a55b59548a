"""The chat page in a real browser."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from nomoat.core.store import Store
from nomoat.engine.options import ServiceOptions
from nomoat.serve.options import ServeOptions
from served import add_adapter, serving
from tiny import tiny_base


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    store = Store(tmp_path_factory.mktemp("page"))
    folder = store.path("bases", "tiny")
    base = dataclasses.replace(tiny_base(folder, tie_word_embeddings=False, max_position_embeddings=4096), name="tiny")
    for seed, name in enumerate(("odd", "even"), start=1):
        add_adapter(store, base, name, seed)
    options = ServeOptions(port=0, stacks=("both=odd:0.5+even",))
    yield from serving(store.home, options, ServiceOptions(max_batch=4, cache_mb=64))


@pytest.fixture
def page(live: Any, browser: Any) -> Iterator[Any]:
    """The open page. Anything it logs as an error, and any request to elsewhere, fails the test."""
    wrong: list[str] = []
    tab = browser.new_context().new_page()
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    tab.on("request", lambda request: None if request.url.startswith(live.url) else wrong.append(request.url))
    tab.goto(live.url)
    tab.locator("#adapter-odd").wait_for()
    tab.locator("#max-tokens").fill("48")
    yield tab
    tab.context.close()
    assert wrong == []


def long_winded(route: Any) -> None:
    """The random model may end its turn at any token; forbid it that."""
    body = {**route.request.post_data_json, "logit_bias": {"0": -100, "2": -100}}
    route.continue_(post_data=json.dumps(body))


def say(page: Any, text: str, answers: int) -> None:
    """Type and press Enter; wait until that many answers are complete."""
    page.locator("#message").fill(text)
    page.keyboard.press("Enter")
    page.locator(".facts").nth(answers - 1).wait_for()


def test_a_talk_goes_on_while_the_sliders_move(page: Any) -> None:
    say(page, "hello", 1)
    page.locator("#adapter-odd").fill("0.5")
    page.locator("#adapter-even").fill("1")
    assert page.locator("#model-name").text_content() == "tiny+even+odd:0.5"
    say(page, "and now?", 2)
    assert page.locator(".turn.assistant .who").all_text_contents() == ["tiny", "tiny+even+odd:0.5"]
    facts = page.locator(".facts").nth(1).text_content()
    assert "tokens/s" in facts or facts.startswith("1 token ·")  # one token has no speed
    assert all(page.locator(".turn.assistant .text").all_text_contents())


def test_a_named_stack_sets_the_sliders(page: Any) -> None:
    page.get_by_role("button", name="both").click()
    assert page.locator("#adapter-odd").input_value() == "0.5"
    assert page.locator("#model-name").text_content() == "tiny+even+odd:0.5"


def test_escape_stops_an_answer_and_what_came_is_kept(page: Any) -> None:
    page.route("**/v1/chat/completions", long_winded)
    page.locator("#max-tokens").fill("2048")
    page.locator("#message").fill("hello")
    page.keyboard.press("Enter")
    page.locator("#stop").wait_for()
    page.locator(".turn.assistant .text:not(:empty)").wait_for()
    page.keyboard.press("Escape")
    page.locator(".facts").wait_for()
    assert "stopped" in page.locator(".facts").text_content()
    assert page.locator("#send").is_visible()


def test_chats_and_settings_outlive_a_reload_and_can_be_deleted(page: Any) -> None:
    page.locator("#system").fill("be odd")
    say(page, "remember me", 1)
    said = page.locator(".turn.assistant .text").text_content()
    page.reload()
    page.get_by_role("button", name="remember me", exact=True).click()
    assert page.locator(".turn.assistant .text").text_content() == said
    assert page.locator("#system").input_value() == "be odd"
    page.locator("#past .drop").first.click()
    assert page.locator("#past li").count() == 0


def test_shift_enter_is_a_new_line_and_markup_stays_text(page: Any) -> None:
    page.locator("#message").focus()
    page.keyboard.type("<img src=x onerror=alert(1)>")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    page.locator(".facts").wait_for()
    assert page.locator(".turn.user .text").text_content() == "<img src=x onerror=alert(1)>\ntwo"
    assert page.locator(".turn.user img").count() == 0


def test_code_is_set_apart_without_blank_lines_around_it(page: Any) -> None:
    said = "Use it:\n\n```python\nprint(1)\n```\n\nDone."
    event = json.dumps({"choices": [{"delta": {"content": said}, "finish_reason": "stop"}]})
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=f"data: {event}\n\ndata: [DONE]\n\n"))
    say(page, "how?", 1)
    assert page.locator(".turn.assistant pre").text_content() == "print(1)"
    assert page.locator(".turn.assistant .text").text_content() == "Use it:print(1)Done."


@pytest.mark.parametrize("size", [(1200, 800), (390, 780)])
def test_nothing_is_cut_off_at_either_width(page: Any, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    say(page, "a" * 300, 1)
    inside = page.locator("html").bounding_box()
    for name in ("#message", "#send", "#talk", "header"):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= inside["width"] + 0.5
        assert box["y"] + box["height"] <= size[1] + 0.5
    if size[0] < 500:
        page.locator("#open-side").click()
        assert page.locator("#adapter-odd").is_visible()


def test_the_pages_policy_lets_nothing_in_from_elsewhere(live: Any) -> None:
    reply = live.http.get("/")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    for name in ("chat.js", "chat.css", "page.css", "stream.js", "text.js", "history.js", "icon.svg"):
        text = live.http.get(f"/web/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text
    assert live.http.get("/web/../serve/run.py").status_code == 404
    assert live.http.get("/web/%2e%2e%2fserve%2frun.py").status_code == 404
