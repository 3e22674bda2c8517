"""The page that `reports_as_html` fills in: its style, and the script that draws what comes into view."""

from __future__ import annotations

from string import Template

DRAWING = """
const figures = JSON.parse(document.getElementById("figures").textContent);
const settings = { responsive: true, displaylogo: false, displayModeBar: "hover", plotlyServerURL: "",
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
const boxes = document.querySelectorAll(".plot");
function draw(box) {
  if (box.dataset.drawn) return;
  box.dataset.drawn = "yes";
  const figure = figures[box.dataset.figure];
  Plotly.newPlot(box, figure.data, figure.layout, settings);
}
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
}, { rootMargin: "800px" });
for (const box of boxes) watcher.observe(box);
window.addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
  for (const box of boxes) draw(box);
});
"""

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src $scripts;\
 style-src 'unsafe-inline'; img-src data: blob:">
<title>$title</title>
<style>
:root { color-scheme: light; --ground: #fff; --ink: #1b1f24; --soft: #59636e; --line: #d8dee4; }
body { margin: 24px auto 64px; max-width: 1200px; padding: 0 20px; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 22px; margin: 0 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 26px 0 6px; overflow-wrap: anywhere; }
h3 { font-size: 16px; margin: 26px 0 6px; }
h4 { font-size: 15px; margin: 0 0 6px; }
p { margin: 0 0 4px; }
.verdict { font-size: 17px; font-weight: 600; }
.finding { border: 1px solid var(--line); border-left: 5px solid #b7791f; border-radius: 4px;
  padding: 10px 14px; margin: 0 0 10px; }
.finding.critical { border-left-color: #c0392b; }
.badge { background: #fdf3dc; color: #7a4f00; border-radius: 3px; padding: 1px 7px; font-size: 13px; }
.critical .badge { background: #fbe4e1; color: #96281b; }
dl { display: grid; grid-template-columns: 80px 1fr; gap: 3px 10px; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
pre { margin: 4px 0 0; font-size: 13px; white-space: pre-wrap; }
code { font-size: 12.5px; font-weight: normal; color: var(--soft); }
figure { margin: 0; }
figure h3 { margin-bottom: 0; }
figcaption, footer, caption { color: var(--soft); font-size: 13px; }
caption { caption-side: bottom; text-align: left; padding: 4px 10px; }
.plot { width: 100%; margin-bottom: 8px; }
.wide { overflow-x: auto; margin: 26px 0 6px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 10px; text-align: right; vertical-align: top; white-space: pre;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
th:first-child { text-align: left; }
tbody th { color: var(--ink); font-weight: normal; white-space: pre-wrap; overflow-wrap: anywhere;
  min-width: 160px; }
.words { text-align: left; white-space: pre-wrap; overflow-wrap: anywhere; min-width: 120px; }
summary { cursor: pointer; border-top: 1px solid var(--line); margin-top: 26px; }
summary h2 { display: inline-block; margin: 10px 0; }
ul { margin: 0; padding-left: 22px; }
li { margin-bottom: 4px; overflow-wrap: anywhere; }
footer { margin-top: 32px; border-top: 1px solid var(--line); padding-top: 8px; }
</style>
</head>
<body>
<h1>$title</h1>
<noscript><p>The pictures need JavaScript; all figures are in the tables, too.</p></noscript>
<main>
$body
</main>
<footer>deblurkit $version, analyze-log</footer>
<script type="application/json" id="figures">$figures</script>
<script>$library</script>
<script>$drawing</script>
</body>
</html>
""")
