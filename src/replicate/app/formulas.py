"""Formulas of the report as MathML: browsers set it in the page's colour and size, and read it aloud."""

import html


def connect(app) -> None:
    """Let Sphinx write formulas this way; MathJax would be fetched from a server."""
    app.add_html_math_renderer("mathml", (_visit_within, None), (_visit_block, None))


def to_mathml(formula: str, as_block: bool = False) -> str:
    """A formula of TeX as MathML, or as its source where docutils cannot read it."""
    from docutils.utils.math import MathError
    from docutils.utils.math.latex2mathml import tex2mathml

    try:
        return tex2mathml(formula, as_block=as_block)
    except (MathError, SyntaxError):
        return f"<code>{html.escape(formula)}</code>"


def _visit_within(writer, node) -> None:
    _write(writer, to_mathml(node.astext()))


def _visit_block(writer, node) -> None:
    _write(
        writer, f'<div class="formula" tabindex="0">{to_mathml(node.astext(), as_block=True)}</div>'
    )


def _write(writer, text: str) -> None:
    from docutils.nodes import SkipNode

    writer.body.append(text)
    raise SkipNode
