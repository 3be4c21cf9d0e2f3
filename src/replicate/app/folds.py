"""Long pages of the report, folded: each section opens by a click, so that a phone shows the whole page's outline."""


def connect(app) -> None:
    """Fold the sections of `folded_pages` when Sphinx writes them."""
    app.connect("doctree-resolved", _fold)


def _fold(app, tree, page: str) -> None:
    from docutils import nodes

    if page not in app.config.folded_pages:
        return
    for top in tree.findall(nodes.section):
        if isinstance(top.parent, nodes.document):
            for section in [child for child in top.children if isinstance(child, nodes.section)]:
                _fold_section(section)


def _fold_section(section) -> None:
    """The section's title becomes the button that shows the rest."""
    from docutils import nodes

    title = section.next_node(nodes.title)
    at = section.index(title)
    section.insert(at + 1, nodes.raw("", "</summary>", format="html"))
    section.insert(at, nodes.raw("", '<details class="fold"><summary>', format="html"))
    section.append(nodes.raw("", "</details>", format="html"))
