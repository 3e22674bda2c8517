from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deblurkit.render.analysis_page.elements import Pictures, as_html, sentences, table_of
from deblurkit.render.analysis_page.figure import Figure


def test_a_table_for_the_terminal_is_a_table_of_the_page():
    table = Table()
    table.add_column("Phase")
    table.add_column("mean", justify="right")
    table.add_row(Text("  <b>[red]时间"), "4 ms")
    table.caption = "1 row & more"
    html = as_html(table)
    assert '<th scope="col">Phase</th><th scope="col">mean</th>' in html
    assert '<th scope="row">  &lt;b&gt;[red]时间</th><td>4 ms</td>' in html
    assert "<caption>1 row &amp; more</caption>" in html


def test_columns_of_words_are_told_from_figures():
    html = table_of(["Log", "steps", "verdict"], [["a", "1", "fine"]], words=["verdict"])
    assert '<td>1</td><td class="words">fine</td>' in html


def test_headings_and_sentences_of_a_report():
    assert as_html(Text("\nNotes")) == "<h3>Notes</h3>"
    assert as_html(Padding(Text("a < b"), (0, 0, 0, 2))) == "<p>a &lt; b</p>"
    assert as_html(Text("A  x.log")) == "<p>A  x.log</p>"
    assert sentences("Notes", []) == ""
    assert sentences("Notes", ["<i>"]) == "<h3>Notes</h3><ul><li>&lt;i&gt;</li></ul>"


def test_a_picture_has_room_under_its_number():
    pictures = Pictures()
    pictures.placed(Figure("one", "", [], {"height": 100}))
    html = pictures.placed(Figure("<two>", "a & b", [{"x": [1]}], {"height": 200}))
    assert 'aria-label="&lt;two&gt;" data-figure="1" style="height:200px"' in html
    assert "<figcaption>a &amp; b</figcaption>" in html
    assert pictures.as_data()[1] == {"data": [{"x": [1]}], "layout": {"height": 200}}
