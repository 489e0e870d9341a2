"""Which pattern a path belongs to."""

import pytest

from fairlead.errors import ConfigError
from fairlead.gateway.routes import Routes, pattern


def found(path, *written):
    result = Routes([pattern(one) for one in written]).find(path)
    return result and (written[result[0]], dict(result[1]))


def test_a_parameter_is_one_segment_and_never_empty():
    assert found("/home/1", "/home/{id}") == ("/home/{id}", {"id": "1"})
    assert found("/home/", "/home/{id}") is None
    assert found("/home/1/2", "/home/{id}") is None
    assert found("/home/1/", "/home/{id}") is None
    assert found("/home", "/home/{id}") is None


def test_a_literal_wins_over_a_parameter_wherever_it_stands_in_the_file():
    patterns = ("/{any}/x", "/home/{id}", "/home/x", "/{any}/{other}")
    assert found("/home/x", *patterns) == ("/home/x", {})
    assert found("/home/y", *patterns) == ("/home/{id}", {"id": "y"})
    assert found("/away/x", *patterns) == ("/{any}/x", {"any": "away"})
    assert found("/away/y", *patterns) == ("/{any}/{other}", {"any": "away", "other": "y"})


def test_an_encoded_slash_stays_inside_its_segment():
    assert found("/home/a%2Fb%20c", "/home/{id}") == ("/home/{id}", {"id": "a/b c"})


def test_spellings_of_one_path_are_one_path():
    assert found("/caf%c3%a9/%31", "/café/{id}") == ("/café/{id}", {"id": "1"})
    assert found("/h%6Fme/1", "/home/{id}") == ("/home/{id}", {"id": "1"})


@pytest.mark.parametrize("path", ["/home/..", "/home/.", "/home/%2e%2E", "/home/%ff", "/other", "", "home/1"])
def test_what_is_no_path_of_ours_is_not_found(path):
    assert found(path, "/home/{id}") is None


@pytest.mark.parametrize("path", ["/home/..a", "/home/a.b", "/home/...x"])
def test_dots_beside_other_characters_are_a_value(path):
    assert found(path, "/home/{id}") == ("/home/{id}", {"id": path.removeprefix("/home/")})


def test_the_root_is_a_path():
    assert found("/", "/") == ("/", {})


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("home", "is not a path"),
        ("//home", "is not a path"),
        ("/home?x", "is more than a path"),
        ("/home#x", "is more than a path"),
        ("/a b", "is more than a path"),
        ("/{id}/{id}", "two parameters"),
        ("/a{id}", "is not a parameter"),
        ("/{a b}", "is more than a path"),
        ("/{1}", "is not a parameter"),
        ("/{query}", "rename the parameter"),
        ("/a/../b", "a segment of dots"),
    ],
)
def test_a_mistaken_pattern_is_refused(written, why):
    with pytest.raises(ConfigError, match=why):
        pattern(written)
