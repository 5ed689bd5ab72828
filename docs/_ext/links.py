"""Check that every link within a built site has a target, and print all outward links.

python docs/_ext/links.py build/docs
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["broken", "read"]


class _Page(HTMLParser):
    """Collect the anchors of a page and its links."""

    def __init__(self):
        super().__init__()
        self.anchors, self.links = set(), set()

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)


def read(folder):
    """Return each HTML file of a folder with its anchors and links."""
    pages = {}
    for path in sorted(Path(folder).resolve().rglob("*.html")):
        pages[path] = page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
    return pages


def broken(pages):
    """Return pairs of a page and a link without a target."""
    found = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            fragment = unquote(parts.fragment)
            known = pages[target].anchors if target in pages else None
            if not target.exists() or (fragment and known is not None and fragment not in known):
                found.append((path, link))
    return found


if __name__ == "__main__":
    pages = read(sys.argv[1])
    if not pages:
        sys.exit(f"{sys.argv[1]} has no HTML page; build the site first")
    outward = {link for page in pages.values() for link in page.links if "://" in link}
    sys.stdout.write("".join(f"outward, not checked: {link}\n" for link in sorted(outward)))
    if wrong := broken(pages):
        sys.exit("\n".join(f"{path}: {link} has no target" for path, link in wrong))
