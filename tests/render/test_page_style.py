import base64
import hashlib
import re
import shutil
import subprocess

import pytest

from deblurkit.render.page_style import footer_of, page_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_titles_are_text_and_the_body_is_html():
    page = page_of("<b>运行 & 1", "<p>one</p>")
    assert "<title>&lt;b&gt;运行 &amp; 1</title>" in page and "<h1>&lt;b&gt;运行 &amp; 1</h1>" in page
    assert "<p>one</p>" in page
    assert "<h1>Memory of &lt;</h1>" in page_of("<", "", heading="Memory of <")


def test_a_page_may_run_just_its_scripts_and_show_just_its_pictures():
    script = 'const text = "$1 处";'
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = page_of("t", "", scripts=[script, "2"], images="data:")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].split("; ")
    assert policy[0] == "default-src 'none'" and policy[-1] == "img-src data:"
    assert f"'sha256-{digest}'" in policy[1] and f"<script>{script}</script>" in page
    still = page_of("t", "")
    assert "script" not in still and "img-src" not in still and "default-src 'none'" in still


def test_a_colour_has_a_dark_twin_only_where_a_page_can_be_dark():
    page = page_of("t", "", colours={"bad": ("#e00", "#a00")})
    assert "--bad: #e00" in page.partition("@media")[0] and "--bad: #a00" in page.partition("@media")[2]
    light = page_of("t", "", colours={"bad": ("#e00", "#a00")}, has_dark=False)
    assert "--bad: #e00" in light and "#a00" not in light and "prefers-color-scheme" not in light


def test_a_page_s_own_rules_come_last():
    page = page_of("t", "", style="p { margin: 7px; }\n")
    assert page.index("p { margin: 7px; }") > page.index("p { margin: 0 0 4px")


def test_the_footer_names_the_command():
    assert re.fullmatch(r"<footer>deblurkit \d\S*, analyze-log</footer>", footer_of("analyze-log"))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize(("allowed", "shown"), [(True, "ran"), (False, "waits")])
def test_a_browser_runs_a_page_s_script_and_no_other(tmp_path, allowed, shown):
    script = 'document.getElementById("told").textContent = "ran";'
    body = '<p id="told">waits</p>' + ("" if allowed else f"<script>{script} </script>")
    path = tmp_path / "page.html"
    path.write_text(page_of("t", body, scripts=[script] if allowed else ["1"]), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{path}"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert f'<p id="told">{shown}</p>' in found.stdout
