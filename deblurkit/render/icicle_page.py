"""The page that `icicle` fills in: its style, and the line that says what the pointer is on."""

from __future__ import annotations

from string import Template

COLOURS = {"rest": ("#c3c9d1", "#7d8792")}

STYLE = """\
body { margin-bottom: 96px; }
h2 { font-size: 16px; margin: 26px 0 6px; }
h2 small, li small { color: var(--soft); font-weight: normal; font-size: 13px; }
p { margin: 0; color: var(--soft); }
svg text { fill: #15191e; pointer-events: none; }
.cell { outline: none; }
.cell:hover rect, .cell:focus rect { stroke: var(--ink); stroke-width: 1.5; }
#facts { position: fixed; left: 0; right: 0; bottom: 0; padding: 10px 20px; min-height: 24px;
  background: var(--ground); border-top: 1px solid var(--line); font-variant-numeric: tabular-nums; }
th, td { vertical-align: inherit; white-space: nowrap; }
th:first-child { text-align: right; }
.left, th.left { text-align: left; }
li { margin-bottom: 6px; }
"""

BODY = Template("""\
$facts
$bands
<h2>What would speed it up most <small>each by itself; they do not add up</small></h2>
$gains
<h2>Phases</h2>
<div class="wide">$phases</div>
<h2>Modules <small>with the modules inside them; own is without</small></h2>
<div class="wide">$rows</div>
<ul>$notes</ul>
<div id="facts" aria-live="polite">Point at a bar.</div>""")

POINTING = """
const line = document.getElementById("facts");
for (const kind of ["mouseover", "focusin"]) {
  document.addEventListener(kind, (event) => {
    const cell = event.target.closest && event.target.closest(".cell");
    if (cell) line.textContent = cell.dataset.facts;
  });
}
"""
