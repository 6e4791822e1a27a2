"""Import path of this folder's shared cases, and a hypothesis profile with more examples."""

import pathlib
import sys

from hypothesis import settings

sys.path.insert(0, str(pathlib.Path(__file__).parent))
# pytest --hypothesis-profile thorough
settings.register_profile("thorough", max_examples=1000, derandomize=False)
