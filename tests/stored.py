"""Ways through the storage codec, for tests."""

import json

from kforce.storage.codec import decode, encode
from kforce.storage.files import read, write


def through_file(value):
    """A value as a file would give it back."""
    tree, arrays = encode(value)
    return decode(json.loads(json.dumps(tree, allow_nan=False)), arrays)


def changed(path, saved, place, value):
    """Write a saved model with another value at a place in its tree, or an array.

    All parts of the file fit together. None leaves an array out.
    """
    tree, arrays = read(saved)
    if isinstance(place, str):
        arrays[place] = value
        arrays = {name: array for name, array in arrays.items() if array is not None}
    else:
        part = tree
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
    write(path, tree, arrays)
    return path
