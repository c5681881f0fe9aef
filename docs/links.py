"""Links of a built site: every page, anchor and picture is there, and nothing is loaded from another host.

`python links.py _docs` prints what is broken and ends with 1 if anything is.
"""

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {  # tag -> attributes that make a browser load something
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
OUTSIDE = re.compile(r"^(https?:)?//", re.IGNORECASE)
CSS_LOADS = re.compile(r"(?:@import\s+|url\()\s*[\"']?((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)


@dataclass
class Page(HTMLParser):
    "What a page offers (`ids`) and asks for: `links` to follow, `loads` that a browser fetches, its `styles`."

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    in_style: bool = False

    def __post_init__(self):
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.in_style = tag == "style"
        self.ids.update(given[name] for name in ("id", "name") if given.get(name) and tag != "meta")
        if tag in ("a", "area") and given.get("href"):
            self.links.append(given["href"])
        for name in LOADS.get(tag, ()):
            value = given.get(name, "")
            self.loads += [part.split()[0] for part in value.split(",") if part.strip()] if name == "srcset" else []
            self.loads += [value] if value and name != "srcset" else []
        self.styles.append(given.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.styles.append(data)


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return page


def check_site(site: Path) -> list[str]:
    "What is broken in the site at this folder, one line each; empty when all is well."
    pages = {path.resolve(): read_page(path) for path in sorted(site.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        where = str(path.relative_to(site.resolve()))
        broken += [f"{where}: loads {url} from outside" for url in page.loads if OUTSIDE.match(url)]
        broken += [f"{where}: loads {url} from outside" for css in page.styles for url in CSS_LOADS.findall(css)]
        for url in dict.fromkeys(page.links + page.loads):
            problem = problem_of(url, path, pages)
            broken += [f"{where}: {problem}"] if problem else []
    for path in sorted(site.rglob("*.css")):
        urls = CSS_LOADS.findall(path.read_text(encoding="utf-8"))
        broken += [f"{path.relative_to(site)}: loads {url} from outside" for url in urls]
    return broken


def problem_of(url: str, path: Path, pages: dict[Path, Page]) -> str:
    "What is wrong with one link of the page at `path`; empty for nothing, and for other hosts."
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return ""
    target = path.parent.joinpath(unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.exists():
        return f"link to {url}, which is not there"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].ids:
        return f"link to {url}, but that page has no anchor #{anchor}"
    return ""


if __name__ == "__main__":
    found = check_site(Path(sys.argv[1]))
    print("\n".join(found) or "all links lead somewhere, and nothing is loaded from outside")
    sys.exit(bool(found))
