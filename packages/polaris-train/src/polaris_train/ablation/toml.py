"""A recipe as the text of a TOML file."""

import tomli_w

from polaris_train.recipe import Recipe


def to_toml(recipe: Recipe) -> str:
    """Return a recipe as `polaris_train.recipe.load_recipe` reads it; defaults are left out.

    TOML has no null, which is the default of whatever may be null.
    """
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_defaults=True, exclude_none=True))
