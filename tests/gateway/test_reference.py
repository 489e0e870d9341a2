"""`{...}`: what it reads, known when the file is read."""

import pytest

from fairlead.errors import ConfigError
from fairlead.gateway.reference import reference


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("id", {"id"}),
        ("query.x", {"query"}),
        ("orders[?user == id].sku", {"orders"}),
        ("sort_by(orders, &price)[0]", {"orders"}),
        ("user.nick || query.name", {"user", "query"}),
        ("a.b | c", {"a"}),
        ("not_null(a, b.c)", {"a", "b"}),
        ("[a, b.{x: c}]", {"a", "b"}),
        ("orders[1:2][].sku", {"orders"}),
        ("*.x | [a]", set()),
    ],
)
def test_the_names_read_from_the_top_are_known(written, names):
    if names:
        assert reference(written).names == names
    else:
        with pytest.raises(ConfigError):
            reference(written)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "is not JMESPath"),
        ("orders[", "is not JMESPath"),
        ("a b", "is not JMESPath"),
        ("query", "reads everything at once"),
        ("header", "reads everything at once"),
        ("@", "reads everything at once"),
        ("[*].x", "reads everything at once"),
        ("'text'", "refers to nothing"),
        ("size(orders)", "no function size"),
        ("length(orders, id)", "takes 1 values, and 2 are given"),
    ],
)
def test_what_could_never_work_is_refused_when_it_is_read(written, why):
    with pytest.raises(ConfigError, match=why):
        reference(written)
