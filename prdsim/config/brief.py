"""How a configuration is shown: by the keys that differ from their defaults."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from prdsim.notebook import html_table


class Brief(BaseModel):
    """A model whose `repr` is a call that makes it, without the keys that have their defaults."""

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Yield the keys, and values, that differ from their defaults."""
        for key, value in self:
            if value != type(self).model_fields[key].default:
                yield key, value

    def _repr_html_(self) -> str:
        keys = {key: value for key, value in self.__repr_args__() if key}
        return html_table(f"{type(self).__name__}: keys that differ from their defaults", keys)
