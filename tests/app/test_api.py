"""Docstrings reach the report as the plain text they are."""

import re

import pytest

from replicate import averaging, optim, training
from replicate.app import api


def as_html(text: str) -> str:
    """What docutils makes of a docstring; a warning is an error."""
    docutils = pytest.importorskip("docutils.core", reason="the extra `report` is not installed")
    source = "\n".join(api.as_text(text.splitlines()))
    return docutils.publish_parts(
        source, writer="html5", settings_overrides={"halt_level": 2, "report_level": 2}
    )["body"]


def test_an_indented_paragraph_is_an_equation_to_the_letter():
    page = as_html("Averages.\n\n    w_t = sum_{j > t} mu_j\n      = 1 | *\n\nAfter.")
    assert "<pre" in page and "w_t = sum_{j &gt; t} mu_j\n  = 1 | *" in page
    assert "<p>After.</p>" in page


@pytest.mark.parametrize(
    "text", ["a_ b* |c| **kwargs", "f(*args) and x_", "<b>_", "C:\\d", ".. note::", "2 * 3 * 4"]
)
def test_what_looks_like_markup_is_text(text):
    from html import unescape

    page = as_html(f"It says {text} and no more.")
    assert unescape(re.sub(r"<[^>]+>", "", page)).strip() == f"It says {text} and no more."
    assert "<em>" not in page and "<strong>" not in page and "<a " not in page


def test_code_is_code_even_before_a_letter():
    page = as_html("Of `theta_t1`, of `k`s and ``x``.")
    assert re.findall(r'<span class="docutils literal">(.*?)</span>', page) == [
        "theta_t1",
        "k",
        "x",
    ]


def test_items_and_hanging_lines_keep_together():
    page = as_html("loss: of a batch,\n    a mean\nkernel: k -> mu\n\n- one\n  more\n- two")
    assert "loss: of a batch, a mean kernel: k -&gt; mu" in page
    assert page.count("<li>") == 2 and "one more" in page


def test_examples_stay_as_they_are_typed():
    page = as_html("Says.\n\n>>> 2 * 3\n6")
    assert "&gt;&gt;&gt; 2 * 3\n6" in page


def test_the_page_asks_for_every_public_name_of_ours_and_for_no_docstring_of_torch():
    page = api.page()
    asked = set(re.findall(r"auto\w+:: ([\w.]+)", page))
    for package in (optim, averaging, training):
        for name in package.__all__:
            value = getattr(package, name)
            of_torch = getattr(value, "__module__", package.__name__).startswith("torch")
            assert (f"{package.__name__}.{name}" in asked) == (not of_torch), name
    assert "replicate.compare" in asked and "`SGD`" in page
