"""All figures of the poster from one call: runs, pictures, numbers and a page that shows them."""

from prdsim.reproduction.plan import Study, available_studies
from prdsim.reproduction.reproduce import Outcome, reproduce

__all__ = ["Outcome", "Study", "available_studies", "reproduce"]
