"""What all plugins are: frozen structs whose fields are their parameters, in camelCase."""

import msgspec


class Plugin(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A plugin of a profile. Its class's docstring and its fields' are its documentation."""
