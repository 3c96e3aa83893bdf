"""A page taken apart by Python's own HTML parser, which takes everything; what is wrong with it is listed."""

import re
from html.parser import HTMLParser

from pipeline.report.html import TEMPLATES

VOID = {"meta", "img", "br", "hr", "input", "link", "base", "col", "embed", "source", "track", "wbr", "area"}
"""Elements that have no end (HTML, section 13.1.2)."""


class ParsedPage(HTMLParser):
    """What the page holds: tags, attributes, ids, scripts, text. `wrong`: elements that are not closed where they were opened."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.content = content
        self.tags, self.attributes, self.ids, self.scripts, self.texts = [], [], [], [], []
        self.wrong, self._open = [], []
        self.feed(content)
        self.close()
        self.wrong += [f"<{tag}> is never closed" for tag in self._open]

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]
        self.ids += [value for name, value in attributes if name == "id"]
        names = [name for name, _ in attributes]
        self.wrong += [f"<{tag}> has {name} twice" for name in set(names) if names.count(name) > 1]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if self._open[-1:] != [tag]:
            self.wrong.append(f"</{tag}> at {self.getpos()} within {self._open[-3:]}")
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        (self.scripts if self._open[-1:] == ["script"] else self.texts).append(data)

    def check_nothing_is_fetched_or_listens(self) -> None:
        """One script, ours; no address but of images within the page; no element that loads, no attribute that runs."""
        ours = (TEMPLATES / "sort.js").read_text()
        assert "".join(self.scripts) == ours
        assert self.tags.count("script") == 1
        assert "http:" not in self.content
        assert "https:" not in self.content
        assert "//" not in re.sub(r"base64,[\w+/=\s]*", "", self.content).replace(ours, "")
        for tag, name, value in self.attributes:
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "data"):
                assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:50])
        assert not set(self.tags) & {"iframe", "object", "embed", "link", "base", "form", "foreignobject"}

    def check_names_are_text(self) -> None:
        """No control character and no mark of direction, and no word that would make the page wide."""
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", self.content)
        longest = max(self.text.split(), key=len)
        assert len(longest) < 200, longest
