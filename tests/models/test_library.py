"""Where shipped models stand, found without reading their files."""

from __future__ import annotations

import pytest

from dcsim.models import diffusion, language, library, vae


@pytest.mark.parametrize(
    ("folder", "read"),
    [
        ("llms", language.read),
        ("denoisers", diffusion.read),
        ("vaes", lambda path: library.read(path, vae.VaeFile).vaes),
    ],
)
def test_the_index_is_what_the_files_say(folder: str, read) -> None:  # type: ignore[no-untyped-def]
    index = library.index(folder)
    said = {}
    for path in dict.fromkeys(path for path, _ in index.values()):
        for name, fields in read(path).items():
            said |= dict.fromkeys((name, *fields.aliases), (path, name))
    assert index == said
