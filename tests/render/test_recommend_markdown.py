from deblurkit.render.recommend_markdown import recommendation_as_markdown, sheet_as_markdown
from deblurkit.render.recommend_sheets import Sheet


def test_a_table_has_its_figures_on_the_right():
    sheet = Sheet("t", ("a", "b", "c"), (("x", "1", "y"),), frozenset({2}))
    assert sheet_as_markdown(sheet) == "| a | b | c |\n| :-- | --: | :-- |\n| x | 1 | y |"


def test_what_a_cell_holds_changes_neither_the_table_nor_the_page():
    sheet = Sheet("t", ("a",), (("| <b> *x* \n# [y](z) `c` _d_ & \\",),), frozenset())
    *_, row = sheet_as_markdown(sheet).splitlines()
    assert row == r"| \| \<b\> \*x\* \# \[y\](z) \`c\` \_d\_ \& \\ |"


def test_all_tables_and_sentences_are_there(recommendation):
    text = recommendation_as_markdown(recommendation(loading_words=("a clip takes 0.1 s",)))
    assert text.count("\n## ") == 7 and text.startswith("# The recommendation\n")
    assert "| \\+ batch 3 x 2 | 24.00 GiB | 1,200 ms | 5.00 |" in text
    assert "- For 2 x CPU \\<b\\>é \\| x\\</b\\>;" in text
    assert "- a clip takes 0.1 s" in text and "- a note with \\| and \\<i\\>" in text


def test_titles_may_be_chinese(recommendation):
    assert "## 终极优化组合" in recommendation_as_markdown(recommendation(), language="zh")
