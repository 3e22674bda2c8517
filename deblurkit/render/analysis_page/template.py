"""What the page of `reports_as_html` has of its own: rules, and the script that draws what is in view."""

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

STYLE = """\
h2 { font-size: 18px; margin: 26px 0 6px; overflow-wrap: anywhere; }
h4 { font-size: 15px; margin: 0 0 6px; }
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
code { font-weight: normal; color: var(--soft); }
figure { margin: 0; }
figure h3 { margin-bottom: 0; }
figcaption { color: var(--soft); font-size: 13px; }
.plot { width: 100%; margin-bottom: 8px; }
.wide { margin: 26px 0 6px; }
.words { min-width: 120px; }
summary { cursor: pointer; border-top: 1px solid var(--line); margin-top: 26px; }
summary h2 { display: inline-block; margin: 10px 0; }
ul { margin: 0; padding-left: 22px; }
li { margin-bottom: 4px; overflow-wrap: anywhere; }
"""

BODY = Template("""\
<noscript><p>The pictures need JavaScript; all figures are in the tables, too.</p></noscript>
<main>
$parts
</main>
$footer
<script type="application/json" id="figures">$figures</script>""")
