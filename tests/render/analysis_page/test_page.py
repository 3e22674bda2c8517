import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("plotly")

from deblurkit.analysis.compare import compare
from deblurkit.analysis.report import analyze
from deblurkit.analysis.several_logs import analyze_all
from deblurkit.analysis.tables import Event
from deblurkit.errors import DeblurkitError
from deblurkit.render.analysis_page.page import reports_as_html
from deblurkit.timing.records import Beside

MOST_BYTES = 6_000_000
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "br"}


def noise(level, seed, count=600):
    return np.random.default_rng(seed).lognormal(np.log(level), 0.05, count)


@pytest.fixture
def hostile_report(make_log, hostile):
    """A report in which every name that a log can bring is one that would run."""
    times = {
        "数据加载": noise(20, 0),
        hostile.replace("</", "<|"): noise(100, 1),
        f"forward/{hostile.replace('</', '<|')}": noise(60, 2),
        "forward": noise(80, 3),
    }
    times["数据加载"][[99, 299]] = 3_000.0
    log = make_log(
        times,
        source=f"运行/{hostile}.jsonl",
        rank=0,
        notes=(hostile,),
        scalars={f"loss/{hostile}": noise(1, 4), "loss": noise(2, 5), hostile: noise(1, 6)},
        events=(Event("oom", hostile, 50), Event("validation", "验证", 100, None, 3.0)),
        beside=(Beside(hostile, 5.0, 1, 200),),
    )
    return analyze(log)


class Page(HTMLParser):
    """Checks that every element is closed where it should be, and keeps what it meets."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text, self.scripts, self.styles = [], [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        kept = {"script": self.scripts, "style": self.styles}.get(
            self.open[-1] if self.open else "", self.text
        )
        kept.append(data)


def digest_of(script):
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def figures_of(html):
    return json.loads(
        re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.S)[1]
    )


def test_every_name_is_text(hostile_report, hostile):
    page = Page(reports_as_html([hostile_report]))
    assert page.tags.count("script") == 3  # the figures, the library, and what draws them
    assert sum(hostile in text for text in page.text) >= 4  # title, heading, event, note
    assert any("数据加载" in text for text in page.text)


def test_plotly_gets_no_tag_but_its_line_breaks(hostile_report):
    def texts(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from texts(item)

    tags = {
        tag
        for text in texts(figures_of(reports_as_html([hostile_report])))
        for tag in re.findall("<[^>]*>", text)
    }
    assert tags <= {"<br>", "<extra>", "</extra>"}


def test_it_fetches_nothing_and_says_its_language(hostile_report):
    page = Page(reports_as_html([hostile_report]))
    assert ("lang", "en") in page.attributes
    assert not [name for name, _ in page.attributes if name in ("src", "href", "srcset", "action")]
    assert not re.search(r"url\(|@import", "".join(page.styles))
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy


def test_the_policy_lets_just_these_scripts_run(hostile_report):
    page = Page(reports_as_html([hostile_report]))
    _, *scripts = page.scripts
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert re.findall(r"'sha256-([^']+)'", policy) == [digest_of(script) for script in scripts]


def test_plotly_knows_every_key_of_the_pictures(hostile_report, make_report):
    objects = pytest.importorskip("plotly.graph_objects")
    other = make_report({"data": noise(2, 7), "forward": noise(80, 8)}, rank=1, source=hostile_report.source)
    html = reports_as_html([hostile_report, other], comparison=compare(hostile_report, other))
    figures = figures_of(html)
    assert len(figures) > 6
    for figure in figures:
        objects.Figure(figure["data"], figure["layout"])


def test_a_very_long_log_stays_small(make_log):
    count = 437_000
    times = {
        name: noise(10, seed, count) for seed, name in enumerate(["data", "forward", "backward", "optimizer"])
    }
    scalars = {
        name: noise(1, 9, count // 10) for name in ("loss", "psnr_db", "learning_rate", "cache_hit_rate")
    }
    events = tuple(Event("validation", "x", step) for step in range(0, count, 200))
    html = reports_as_html([analyze(make_log(times, scalars=scalars, events=events))])
    assert len(html.encode()) < MOST_BYTES
    traces = [trace for figure in figures_of(html) for trace in figure["data"]]
    assert max(len(trace.get("x", trace.get("ids", ()))) for trace in traces) <= 2_000


def test_many_ranks_stay_small_and_stand_side_by_side(make_log):
    logs = [
        make_log(
            {"data": noise(2, rank, 3_000), "forward": noise(100 + 80 * (rank == 3), rank, 3_000)},
            rank=rank,
            source=f"run/rank{rank}.jsonl",
        )
        for rank in range(16)
    ]
    html = reports_as_html(analyze_all(logs))
    page = Page(html)
    assert len(html.encode()) < MOST_BYTES
    assert page.tags.count("details") == 16
    ranks = figures_of(html)[0]
    assert len(ranks["layout"]["yaxis"]["ticktext"]) == 16


def test_numbers_of_any_size_are_drawn(make_report):
    values = [1e308, 1e-308, -1e308, float("nan"), float("inf"), 0.0]
    scalars = {
        name: values for name in ("loss", "grad_norm", "cpu_utilisation", "process_memory_bytes", "psnr_db")
    }
    scalars["loss"] = [1e308, 1e-308, 1.0]
    html = reports_as_html([make_report({"forward": [1e-9, 1e11, 0.0]}, scalars=scalars)])
    assert len(figures_of(html)) == 8


def test_two_logs_come_with_their_comparison(make_report):
    a, b = make_report({"data": noise(50, 0)}, source="a"), make_report({"data": noise(20, 1)}, source="b")
    page = Page(reports_as_html([a, b], comparison=compare(a, b)))
    assert "Comparison" in page.text
    assert any("B is materially faster than A" in text for text in page.text)


def test_without_plotly_one_line_says_what_to_install(make_report, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(DeblurkitError, match=r"pip install 'deblurkit\[report\]'") as caught:
        reports_as_html([make_report({"forward": [1.0]})])
    assert "\n" not in str(caught.value)


def test_a_page_needs_a_report():
    with pytest.raises(ValueError, match="needs a report"):
        reports_as_html([])


HOVERING = """
const told = document.createElement("pre");
told.id = "told";
document.body.append(told);
window.alert = () => told.append("ALERT ");
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const hover = async (box, act) => {
  await pause(150);  // plotly answers a pointer once in 50 ms
  act();
  told.append(box.querySelector(".hoverlayer").textContent + "; ");
};
(async () => {
  await pause(1500);
  const boxes = [...document.querySelectorAll(".plot")];
  const drawn = boxes.filter((box) => box.querySelector("svg.main-svg"));
  told.append("drawn " + drawn.length + " of " + boxes.length + "; ");
  for (const box of drawn) {
    for (const slice of box.querySelectorAll("path.surface"))
      await hover(box, () => slice.dispatchEvent(new MouseEvent("mouseover", { bubbles: true })));
    for (const [number, trace] of box.data.entries()) {
      if (trace.type === "icicle" || trace.hoverinfo === "skip") continue;
      const point = { curveNumber: number, pointNumber: 0 };
      await hover(box, () => Plotly.Fx.hover(box, [point], "x" + (trace.yaxis || "y")));
    }
  }
  told.append("scripts " + document.scripts.length);
})();
"""


def in_chromium(folder, html):
    """Return the document as Chromium leaves it, what it says on its console, and what the page asked for."""
    (folder / "page.html").write_text(html, encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"),
            *(
                "--virtual-time-budget=15000",
                "--window-size=1280,20000",
                f"--user-data-dir={folder / 'profile'}",
            ),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--log-net-log={folder / 'net.json'}", "--dump-dom"),
            (folder / "page.html").as_uri(),
        ],
        capture_output=True,
        encoding="utf-8",
        timeout=180,
        check=True,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    events = json.loads((folder / "net.json").read_text(encoding="utf-8"))["events"]
    asked = {
        event["params"]["url"]
        for event in events
        if event.get("params", {}).get("initiator", "not an origin") != "not an origin"  # Chromium's own
    }
    return done.stdout, console, asked


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_chromium_draws_all_asks_for_nothing_complains_of_nothing_and_runs_no_name(
    hostile_report, make_report, tmp_path
):
    other = make_report({"data": noise(2, 7), "forward": noise(80, 8)}, rank=1, source=hostile_report.source)
    html = reports_as_html([hostile_report, other], comparison=compare(hostile_report, other))
    policy = html.replace("script-src ", f"script-src 'sha256-{digest_of(HOVERING)}' ", 1)
    document, console, asked = in_chromium(
        tmp_path, policy.replace("</body>", f"<script>{HOVERING}</script></body>")
    )
    assert console == []
    assert asked == set()
    told = re.search(r'<pre id="told">(.*?)</pre>', document, re.S)[1]
    assert f"drawn {len(figures_of(html))} of {len(figures_of(html))};" in told
    assert "ALERT" not in told
    assert told.endswith("scripts 4")  # the page's three and the test's
    assert told.count("&lt;script&gt;alert(1)&lt;") == 7  # bar, area, two of the icicle, two marks, a loss
    assert "&amp;lt;" not in told


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_check_itself_sees_requests_and_complaints(tmp_path):
    page = '<!doctype html><img src="http://example.com/x.png"><script>nothing.at.all</script>'
    _, console, asked = in_chromium(tmp_path, page)
    assert asked == {"http://example.com/x.png"}
    assert any("nothing is not defined" in line for line in console)
