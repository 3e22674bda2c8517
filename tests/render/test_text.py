from rich.table import Table

from deblurkit.render.text import as_text


def test_a_table_is_plain_text_without_trailing_blanks():
    table = Table("模块", "ms")
    table.add_row("前向传播", "1.0")
    text = as_text(table, width=40)
    assert "\x1b" not in text and "前向传播" in text
    assert all(line == line.rstrip() and len(line) <= 40 for line in text.splitlines())
