"""Check that every link within a built site leads somewhere; print those that lead out of it.

python docs/_ext/links.py build/docs
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["broken", "read"]


class _Page(HTMLParser):
    """Collects the places of a page, and what it links to."""

    def __init__(self):
        super().__init__()
        self.places, self.links = set(), set()

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.places.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)


def read(folder):
    """Return each HTML file of a folder with its places and links."""
    pages = {}
    for path in sorted(Path(folder).resolve().rglob("*.html")):
        pages[path] = page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
    return pages


def broken(pages):
    """Return pairs of a page and a link of it that leads nowhere."""
    found = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            fragment = unquote(parts.fragment)
            known = pages[target].places if target in pages else None
            if not target.exists() or (fragment and known is not None and fragment not in known):
                found.append((path, link))
    return found


if __name__ == "__main__":
    pages = read(sys.argv[1])
    if not pages:
        sys.exit(f"there is no page in {sys.argv[1]}")
    outward = {link for page in pages.values() for link in page.links if "://" in link}
    sys.stdout.write("".join(f"outward, not checked: {link}\n" for link in sorted(outward)))
    if wrong := broken(pages):
        sys.exit("\n".join(f"{path}: {link} leads nowhere" for path, link in wrong))
