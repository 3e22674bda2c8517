import re
from html.parser import HTMLParser

from deblurkit.render.memory_page import memory_as_html
from deblurkit.tuning.memory_report import MemoryReport


class Page(HTMLParser):
    """The elements of a page and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_else_and_runs_nothing(server, run, past):
    text = memory_as_html(MemoryReport(server, run, past))
    page = Page(text)
    assert page.links == [] and "script" not in page.tags and "url(" not in text
    assert "default-src 'none'" in text


def test_names_are_escaped(server, run, past):
    page = Page(memory_as_html(MemoryReport(server, run, past)))
    assert "b" not in page.tags  # as in the names of a module and of a file
    assert "VRT处理/<b>Stage1" in page.text and "/dev/shm/<b>x" in page.text


def test_it_has_the_tables_and_the_bars(server, run, past):
    text = memory_as_html(MemoryReport(server, run, past))
    page = Page(text)
    assert page.tags.count("svg") == 2
    for words in (
        "does not fit",
        "王小明",
        "cgroup memory.max of /slurm/job_7",
        "/dev/kmsg",
        "TRAIN.BATCH_SIZE=1",
    ):
        assert words in page.text
    head = re.search(r"<thead><tr>(.*?)</tr>", text)[1]
    assert '<th scope="col" class="words">verdict</th>' in head and 'words">margin' not in head


def test_without_a_configuration_or_a_driver(bare):
    page = Page(memory_as_html(MemoryReport(bare)))
    assert page.tags.count("svg") == 1 and "NVML Shared Library Not Found" in page.text
