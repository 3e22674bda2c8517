from html.parser import HTMLParser

from deblurkit.render.recommend_page import recommendation_as_html


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}  # nothing is fetched

    def handle_data(self, data):
        self.text += data


def test_the_page_has_picture_tables_and_sentences_and_needs_nothing_else(recommendation):
    page = Page(recommendation_as_html(recommendation(loading_words=("a clip takes 0.1 s",))))
    assert page.tags.count("svg") == 1 and page.tags.count("table") == 6
    assert not {"script", "img", "link", "b"} & set(page.tags)  # the b of the hardware's name is escaped
    for said in ("2 x CPU <b>é | x</b>", "a note with | and <i>", "a clip takes 0.1 s", "1,200 ms", "5.00"):
        assert said in page.text


def test_without_a_figure_the_tables_still_come(recommendation):
    page = Page(recommendation_as_html(recommendation(best=None, rows=(), front=(), trials=())))
    assert "svg" not in page.tags and "NOTHING FITS" in page.text and page.tags.count("table") == 2


def test_titles_may_be_chinese(recommendation):
    assert "三种配置对比" in Page(recommendation_as_html(recommendation(), language="zh")).text
