"""How every page of deblurkit is put together: one head, one security policy, one style.

A page is ``page_of(title, body, ...)``. Its caller gives the HTML below the heading, ending with
``footer_of(command)`` where there is one; the rules of CSS that only it needs, which come behind those of
all pages and so go before them; its colours by name, each for light and for dark screens; and the scripts
that may run, which the policy names by their digests. Nothing else runs, and nothing is fetched.

What a page says is escaped by whoever writes it into the body (`analysis_page.plain.in_html`); titles are
escaped here. Tables are those of `analysis_page.elements.table_of`: their first column names the rows,
``words`` are columns that hold no figures, and ``wide`` is the box that scrolls sideways.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from string import Template
from typing import TypeAlias

from deblurkit import __version__
from deblurkit.render.analysis_page.plain import in_html

Colours: TypeAlias = Mapping[str, tuple[str, str]]  # by name: on a light screen, on a dark one

_COLOURS: Colours = {
    "ground": ("#fff", "#15191e"),
    "ink": ("#1b1f24", "#e8ecf1"),
    "soft": ("#59636e", "#9aa4b0"),
    "line": ("#d8dee4", "#333b45"),
}

_STYLE = Template("""\
body { margin: 24px auto 64px; max-width: ${width}px; padding: 0 20px; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 22px; margin: 0 0 8px; overflow-wrap: anywhere; }
h3 { font-size: 16px; margin: 26px 0 6px; overflow-wrap: anywhere; }
p { margin: 0 0 4px; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 10px; text-align: right; vertical-align: top; white-space: pre;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
th:first-child { text-align: left; }
tbody th { color: var(--ink); font-weight: normal; white-space: pre-wrap; overflow-wrap: anywhere;
  min-width: 160px; }
.words { text-align: left; white-space: pre-wrap; overflow-wrap: anywhere; min-width: 90px; }
caption { caption-side: bottom; text-align: left; padding: 4px 10px; color: var(--soft); }
code { font-size: 12.5px; }
footer { margin-top: 32px; border-top: 1px solid var(--line); padding-top: 8px; color: var(--soft);
  font-size: 13px; }
""")

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
$policy<title>$title</title>
<style>
$style</style>
</head>
<body>
<h1>$heading</h1>
$body
$scripts</body>
</html>
""")


def page_of(
    title: str,
    body: str,
    *,
    heading: str | None = None,
    style: str = "",
    colours: Colours | None = None,
    has_dark: bool = True,
    width: int = 1200,
    scripts: Sequence[str] = (),
    images: str = "",
    has_policy: bool = True,
) -> str:
    """Return a page that needs nothing else: no network, no other file.

    Args:
        title: of the window; plain text.
        body: HTML below the heading.
        heading: plain text; the title where none is given.
        style: rules of CSS that this page has beside those of all pages.
        colours: that this page has beside ground, ink, soft and line; a rule names one ``var(--name)``.
        has_dark: whether the page can be dark; not where pictures in it are light whatever the screen.
        width: of what is read, at most [px].
        scripts: that run when the body is there, in this order.
        images: where pictures may come from, as the policy calls it; nowhere if empty.
        has_policy: whether the page forbids itself all else.
    """
    return _PAGE.substitute(
        policy=_policy(scripts, images) if has_policy else "",
        title=in_html(title),
        style=_colours({**_COLOURS, **(colours or {})}, has_dark) + _STYLE.substitute(width=width) + style,
        heading=in_html(title if heading is None else heading),
        body=body,
        scripts="".join(f"<script>{script}</script>\n" for script in scripts),
    )


def footer_of(command: str) -> str:
    """Return the last line of a page: which command of which version has made it."""
    return f"<footer>deblurkit {in_html(__version__)}, {in_html(command)}</footer>"


def _policy(scripts: Sequence[str], images: str) -> str:
    """Return the line that says what a page may do: run just these scripts, show pictures from just there."""
    allowed = ["default-src 'none'"]
    if scripts:
        allowed.append(f"script-src {' '.join(map(_source_of, scripts))}")
    allowed.append("style-src 'unsafe-inline'")
    if images:
        allowed.append(f"img-src {images}")
    return f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(allowed)}">\n'


def _source_of(script: str) -> str:
    """Return what a security policy calls a script: no other one is run."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _colours(colours: Colours, has_dark: bool) -> str:
    """Return the rules that name the colours, for screens of both kinds where a page can be dark."""
    light = "".join(f" --{name}: {usual};" for name, (usual, _) in colours.items())
    if not has_dark:
        return f":root {{ color-scheme: light;{light} }}\n"
    dark = "".join(f" --{name}: {other};" for name, (_, other) in colours.items())
    return (
        f":root {{ color-scheme: light dark;{light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{{dark} }} }}\n"
    )
