"""Pages and texts from templates that need nothing else: what is shown in them is in them.

In: a template's name and what it shows.  Out: text.  Knows no run and no file but the templates.
"""

from __future__ import annotations

import base64
from typing import Any

import jinja2


def render(template: str, *, escape: bool = True, **content: Any) -> str:
    """Return a template filled in.

    Parameters
    ----------
    template
        Its name among the package's templates.
    escape
        Whether what is filled in is escaped, so that text from data cannot become markup; not for what is read as text.
    **content
        What it shows; a name that is lacking is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("featurecompute"),
        autoescape=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(**content)


def data_url(content: bytes, kind: str) -> str:
    """Return bytes of a kind (``image/png``) as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
