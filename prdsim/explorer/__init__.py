"""One page to explore runs: a file that a colleague opens, or a live view of a run.

Example::

    from prdsim.explorer import content_of, html_page

    with open_recording("with.h5") as run:
        Path("report.html").write_text(html_page(content_of([run])), encoding="utf-8")
"""

from prdsim.explorer.attached import Attached, read_attached
from prdsim.explorer.content import Content, content_of
from prdsim.explorer.page import html_page

__all__ = ["Attached", "Content", "content_of", "html_page", "read_attached"]
