"""The page that `icicle` fills in: its style, and the line that says what the pointer is on."""

from __future__ import annotations

from string import Template

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --soft: #59636e; --line: #d8dee4;
  --rest: #c3c9d1; }
@media (prefers-color-scheme: dark) { :root { --ground: #15191e; --ink: #e8ecf1; --soft: #9aa4b0;
  --line: #333b45; --rest: #7d8792; } }
body { margin: 24px auto 96px; max-width: 1200px; padding: 0 20px; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 22px; margin: 0 0 8px; }
h2 { font-size: 16px; margin: 26px 0 6px; }
h2 small, li small { color: var(--soft); font-weight: normal; font-size: 13px; }
p { margin: 0; color: var(--soft); }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 13px; fill: #15191e; pointer-events: none; }
.cell { outline: none; }
.cell:hover rect, .cell:focus rect { stroke: var(--ink); stroke-width: 1.5; }
#facts { position: fixed; left: 0; right: 0; bottom: 0; padding: 10px 20px; min-height: 24px;
  background: var(--ground); border-top: 1px solid var(--line); font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
.left { text-align: left; }
th { color: var(--soft); font-weight: 600; }
li { margin-bottom: 6px; }
code { font-size: 12.5px; }
</style>
</head>
<body>
<h1>$title</h1>
$facts
$bands
<h2>What would speed it up most <small>each by itself; they do not add up</small></h2>
$gains
<h2>Phases</h2>
<div class="wide">$phases</div>
<h2>Modules <small>with the modules inside them; own is without</small></h2>
<div class="wide">$rows</div>
<ul>$notes</ul>
<div id="facts" aria-live="polite">Point at a bar.</div>
<script>
const line = document.getElementById("facts");
for (const kind of ["mouseover", "focusin"]) {
  document.addEventListener(kind, (event) => {
    const cell = event.target.closest && event.target.closest(".cell");
    if (cell) line.textContent = cell.dataset.facts;
  });
}
</script>
</body>
</html>
""")
