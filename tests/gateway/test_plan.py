"""What waits for what."""

import pytest

from fairlead.errors import ConfigError
from fairlead.gateway.plan import Part, plan
from fairlead.gateway.reference import reference
from fairlead.gateway.target import pieces, target


def part(name, path="/", **options):
    return Part(name=name, service="s", call=f"s {path}", target=target(path), **options)


def stages(*parts, parameters=("id",)):
    return plan("/x/{id}", parameters, parts, None).stages


def test_parts_without_references_begin_together():
    assert stages(part("a"), part("b", "/{id}"), part("c", "/?q={query.q}")) == (("a", "b", "c"),)


def test_a_part_waits_for_every_part_it_refers_to_wherever_it_stands():
    assert stages(part("c", "/{a.x}?y={b.y}"), part("b", "/{a.x}"), part("a")) == (("a",), ("b",), ("c",))


def test_a_diamond_has_three_stages():
    diamond = part("top"), part("left", "/{top.x}"), part("right", "/{top.y}"), part("end", "/?l={left.x}&r={right.x}")
    assert stages(*diamond) == (("top",), ("left", "right"), ("end",))


def test_a_condition_and_a_header_are_references_too():
    by_condition = part("b", when=reference("a.vip"))
    by_header = part("c", headers=(("X-Of", pieces("{b.id}")),))
    assert stages(by_header, by_condition, part("a")) == (("a",), ("b",), ("c",))


def test_a_step_knows_who_waits_for_it():
    steps = plan("/", (), [part("a"), part("b", "/{a.x}"), part("c", "/{a.y}")], None).steps
    assert [step.then for step in steps] == [(1, 2), (), ()]
    assert [step.is_read for step in steps] == [True, False, False]
    assert [step.needs for step in steps] == [(), ("a",), ("a",)]


def test_a_circle_is_told_part_by_part():
    with pytest.raises(ConfigError) as caught:
        stages(part("b", "/{a.x}"), part("a", "/{c.x}"), part("c", "/{b.x}"), part("d"))
    assert caught.value.message == (
        "parts.b: waits for a, which waits for c, which waits for b: a circle; drop one of these references"
    )


def test_a_name_that_leads_nowhere_suggests_one():
    with pytest.raises(ConfigError, match='no part or path parameter "usr"; did you mean "user"'):
        stages(part("user"), part("orders", "/{usr.id}"))
    with pytest.raises(ConfigError, match='no part or path parameter "zzz"; use one of header, id, query, user'):
        stages(part("user"), part("orders", "/{zzz.id}"))
