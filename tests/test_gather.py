"""Several at once: what each part became, who is cancelled, and that nothing is left behind."""

import asyncio
from contextlib import aclosing

import pytest

from fairlead.core import Call, Timeout
from fairlead.errors import (
    AttemptTimedOut,
    CircuitOpen,
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    FairleadError,
)
from fairlead.gather import as_completed, gather, race
from fairlead.message import Request, Response
from fairlead.parts import Part
from fairlead.testing import at_every_step, script, virtual_time


async def after(seconds, value=None):
    """A part: a value, or an error to raise, after so many seconds."""
    await asyncio.sleep(seconds)
    if isinstance(value, BaseException):
        raise value
    return value


class Watched:
    """A part that remembers what became of it."""

    def __init__(self):
        self.started = self.ended = False

    async def __call__(self, seconds, value=None):
        self.started = True
        try:
            return await after(seconds, value)
        finally:
            await asyncio.sleep(0.1)  # cleaning up takes time too
            self.ended = True


def streaming(engine):
    request = Request("GET", "https://api.test/x")
    return engine.send(Call(request, Timeout(), stream=True))


def now():
    return asyncio.get_running_loop().time()


# gather


@virtual_time
async def test_all_parts_run_at_once():
    result = await gather({"a": after(2, 1), "b": after(2, 2), "c": after(2, 3)})
    assert now() == 2
    assert result.data == {"a": 1, "b": 2, "c": 3}
    assert result.complete
    assert result.errors == []
    assert {name: (part.status, part.ms) for name, part in result.services.items()} == {
        "a": ("ok", 2000.0),
        "b": ("ok", 2000.0),
        "c": ("ok", 2000.0),
    }


@virtual_time
async def test_a_part_that_fails_takes_nothing_from_the_others():
    result = await gather({"good": after(1, "here"), "bad": after(0.5, ConnectFailed()), "slow": after(3, "late")})
    assert result.data == {"good": "here", "bad": None, "slow": "late"}
    assert not result.complete
    assert result.services["bad"].status == "error"
    assert result.services["bad"].ms == 500.0
    assert result.errors == [{"service": "bad", "error": "could not connect"}]
    assert isinstance(result.services["bad"].cause, ConnectFailed)


@virtual_time
async def test_any_awaitable_is_a_part():
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(1, future.set_result, "future")

    class Query:
        def __await__(self):
            return after(1, "query").__await__()

    task = asyncio.ensure_future(after(1, "task"))
    result = await gather({"future": future, "task": task, "query": Query(), "nested": gather({"x": after(1, 1)})})
    assert now() == 1
    assert [result.data[name] for name in ("future", "task", "query")] == ["future", "task", "query"]
    assert result.data["nested"].data == {"x": 1}


@virtual_time
async def test_a_time_out_of_a_part_is_a_timeout():
    result = await gather({"ours": after(1, AttemptTimedOut()), "theirs": after(1, TimeoutError("secret"))})
    assert {part.status for part in result.services.values()} == {"timeout"}
    assert [part.error for part in result.services.values()] == ["the attempt timed out", "TimeoutError"]


@virtual_time
async def test_within_cancels_what_is_pending_and_keeps_what_is_here():
    slow = Watched()
    result = await gather({"quick": after(0.1, "here"), "slow": slow(10)}, within=0.5)
    assert result.data == {"quick": "here", "slow": None}
    assert result.services["slow"] == Part("timeout", 500.0, "no answer within 0.5 s")
    assert slow.ended


@virtual_time
async def test_within_a_time_that_is_not_needed_waits_no_longer():
    assert (await gather({"a": after(0.1, 1)}, within=5)).complete
    assert now() == pytest.approx(0.1)


@virtual_time
async def test_a_failed_required_part_cancels_the_rest_and_is_raised_at_once():
    other = Watched()
    error = CircuitOpen(retry_after=3.0)
    with pytest.raises(CircuitOpen) as caught:
        await gather(
            {"user": after(0.2, error), "other": other(10), "failed": after(0.1, KeyError())},
            required={"user"},
        )
    assert caught.value is error
    assert caught.value.__notes__ == ["required part 'user'"]
    assert now() == pytest.approx(0.3)
    assert other.ended


@virtual_time
async def test_of_two_failed_required_parts_the_first_is_raised():
    with pytest.raises(ConnectFailed):
        await gather({"b": after(0.2, KeyError()), "a": after(0.1, ConnectFailed())}, required=["b", "a"])


@virtual_time
async def test_required_names_may_come_from_an_iterator():
    with pytest.raises(ConnectFailed):
        await gather({"a": after(0.1, ConnectFailed()), "b": after(9)}, required=iter(["a", "b"]))
    assert now() == pytest.approx(0.1)


@virtual_time
async def test_a_late_required_part_is_a_deadline_exceeded():
    slow = Watched()
    with pytest.raises(DeadlineExceeded, match=r"required part 'user' gave no answer within 0\.5 s"):
        await gather({"user": slow(10), "other": after(0.1)}, required={"user"}, within=0.5)
    assert slow.ended


@virtual_time
async def test_a_default_fills_the_data_and_the_status_stays():
    result = await gather(
        {"bad": after(0, ConnectFailed()), "late": after(9), "none": None, "good": after(0, None)},
        within=1,
        default={"bad": [], "late": 0, "none": "nothing", "good": "unused"},
    )
    assert result.data == {"bad": [], "late": 0, "none": "nothing", "good": None}
    assert [part.status for part in result.services.values()] == ["error", "timeout", "skipped", "ok"]
    assert [part.used for part in result.services.values()] == ["default", "default", "default", None]


@virtual_time
async def test_a_part_that_is_none_is_skipped():
    result = await gather({"orders": None, "user": after(0.1, 1)})
    assert result.services["orders"] == Part("skipped")
    assert result.data == {"orders": None, "user": 1}
    assert not result.complete
    assert result.errors == []


@virtual_time
async def test_of_a_foreign_error_only_the_class_is_shown():
    result = await gather({"db": after(0, RuntimeError("password=hunter2"))})
    assert result.services["db"].error == "RuntimeError"
    assert "hunter2" not in repr(result)
    assert "hunter2" not in str(result.as_dict())


@virtual_time
async def test_of_our_own_error_the_request_is_not_shown():
    request = Request("GET", "https://internal.test/bot123:secret/send?key=hunter2")
    result = await gather({"bot": after(0, ConnectFailed(request=request, upstream="bot"))})
    assert result.services["bot"].error == "could not connect"


@virtual_time
async def test_the_answer_is_a_plain_dict():
    result = await gather({"user": after(0.25, {"id": 1}), "prices": after(0.1, KeyError())}, default={"prices": []})
    assert result.as_dict() == {
        "data": {"user": {"id": 1}, "prices": []},
        "complete": False,
        "services": {
            "user": {"status": "ok", "ms": 250.0, "error": None},
            "prices": {"status": "error", "ms": 100.0, "error": "KeyError", "used": "default"},
        },
        "errors": [{"service": "prices", "error": "KeyError"}],
    }


@virtual_time
async def test_a_response_is_answered_as_its_json_or_its_text():
    result = await gather(
        {"json": after(0, Response(200, json={"id": 1})), "text": after(0, Response(200, content="hello"))}
    )
    assert result.data["json"].status_code == 200
    assert result.as_dict()["data"] == {"json": {"id": 1}, "text": "hello"}


@pytest.mark.parametrize("content", ["", "{broken", "caf\u00e9"])
@virtual_time
async def test_a_response_that_says_json_and_is_none_is_answered_as_its_text(content):
    answer = Response(200, {"Content-Type": "application/json"}, content)
    result = await gather({"odd": after(0, answer)})
    assert result.as_dict()["data"] == {"odd": content}


@virtual_time
async def test_no_parts_are_complete():
    assert (await gather({})).as_dict() == {"data": {}, "complete": True, "services": {}, "errors": []}


@virtual_time
async def test_a_part_cancelled_by_somebody_else_is_an_error_of_that_part():
    task = asyncio.ensure_future(after(10))
    asyncio.get_running_loop().call_later(0.1, task.cancel)
    result = await gather({"cut": task, "good": after(1, 1)})
    assert result.services["cut"].status == "error"
    assert result.services["cut"].error == "the awaitable was cancelled"

    task = asyncio.ensure_future(after(10))
    asyncio.get_running_loop().call_later(0.1, task.cancel)
    with pytest.raises(FairleadError, match="the awaitable was cancelled"):
        await gather({"cut": task}, required={"cut"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"required": {"usr"}}, "required: 'usr' is no part; the parts are 'user', 'none'"),
        ({"default": {"usr": 1}}, "default: 'usr' is no part"),
        ({"required": "user"}, "required='user' is a string"),
        ({"required": {"none"}}, r"parts\['none'\] is None, and required"),
        ({"required": {"user"}, "default": {"user": 1}}, "'user' is required and has a default"),
        ({"within": 0}, "within=0 is not a number of seconds above 0"),
    ],
)
@virtual_time
async def test_what_cannot_work_is_said_before_anything_starts(options, said):
    part = Watched()
    with pytest.raises(ConfigError, match=said):
        await gather({"user": part(0), "none": None}, **options)
    assert not part.started


@virtual_time
async def test_a_part_that_was_not_called_is_said_by_name():
    with pytest.raises(ConfigError, match=r"parts\['b'\] is function: pass what can be awaited"):
        await gather({"a": after(0), "b": after})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="parts is list: pass a mapping"):
        await gather([after(0)])  # type: ignore[arg-type]


@virtual_time
async def test_a_caller_that_is_cancelled_cancels_its_parts():
    parts = [Watched(), Watched()]
    task = asyncio.ensure_future(gather({"a": parts[0](10), "b": parts[1](10)}))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(part.ended for part in parts)


def test_a_gather_cut_at_any_step_leaves_no_task_and_no_stream():
    async def story(cut):
        engine = script(200, 0.1, 200, 0.3, 200)

        async def caller():
            parts = {name: streaming(engine) for name in "abc"}
            for response in (await gather(parts, within=0.2)).data.values():
                if response is not None:
                    response.close()

        await cut(caller())
        assert engine.open == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    assert at_every_step(story) > 10


# race


@virtual_time
async def test_the_first_success_wins_and_the_rest_are_cancelled():
    slow = Watched()
    assert await race([after(0.1, ConnectFailed()), after(0.2, "won"), slow(9)]) == "won"
    assert now() == pytest.approx(0.3)
    assert slow.ended


@virtual_time
async def test_until_done_the_first_to_end_decides():
    assert await race([after(1, "a"), after(2, "b")], until="done") == "a"
    slow = Watched()
    with pytest.raises(ConnectFailed):
        await race([slow(9), after(1, ConnectFailed())], until="done")
    assert slow.ended


@virtual_time
async def test_a_race_that_none_wins_raises_the_last_error_and_tells_the_others():
    with pytest.raises(AttemptTimedOut) as caught:
        await race([after(0.3, AttemptTimedOut()), after(0.1, ConnectFailed()), after(0.2, KeyError("secret"))])
    assert caught.value.__notes__ == ["the others of the race: could not connect; KeyError"]


@virtual_time
async def test_of_two_that_finish_together_the_response_of_the_loser_is_closed():
    engine = script(200, 200, 200)
    response = await race([streaming(engine) for _ in range(3)])
    assert engine.open == 1
    response.close()
    assert engine.open == 0


def test_a_race_cut_at_any_step_leaves_no_task_and_no_stream():
    async def story(cut):
        engine = script(200, 200, 0.1, 200)

        async def caller():
            (await race([streaming(engine) for _ in range(3)])).close()

        await cut(caller())
        assert engine.open == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    assert at_every_step(story) > 5


@virtual_time
async def test_a_race_says_what_it_cannot_run():
    with pytest.raises(ConfigError, match="at least one"):
        await race([])
    with pytest.raises(ConfigError, match="until='first' is not known"):
        await race([after(0)], until="first")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"awaitables\[1\] is NoneType"):
        await race([after(0), None])  # type: ignore[list-item]


# as_completed


@virtual_time
async def test_parts_come_as_they_finish():
    seen = []
    async for name, part in as_completed(
        {"b": after(2, "B"), "none": None, "a": after(1, KeyError()), "c": after(3, "C")}
    ):
        seen.append((now(), name, part.status, part.value))
    assert seen == [
        (0, "none", "skipped", None),
        (1, "a", "error", None),
        (2, "b", "ok", "B"),
        (3, "c", "ok", "C"),
    ]


@virtual_time
async def test_leaving_the_loop_cancels_the_rest():
    slow = Watched()
    async with aclosing(as_completed({"quick": after(1, 1), "slow": slow(9)})) as parts:
        async for name, _ in parts:
            assert name == "quick"
            break
    assert slow.ended


@virtual_time
async def test_a_plain_break_cancels_the_rest_too():
    slow = Watched()
    async for _ in as_completed({"quick": after(1, 1), "slow": slow(9)}):
        break
    await asyncio.sleep(0.2)
    assert slow.ended


def test_as_completed_cut_at_any_step_leaves_no_task_and_no_stream():
    async def story(cut):
        engine = script(200, 0.1, 200, 0.1, 200)

        async def caller():
            parts = {name: streaming(engine) for name in "abc"}
            async with aclosing(as_completed(parts)) as finished:
                async for _, part in finished:
                    part.value.close()

        await cut(caller())
        assert engine.open == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    assert at_every_step(story) > 10


def test_as_completed_checks_before_it_starts():
    with pytest.raises(ConfigError, match=r"parts\['a'\] is int"):
        as_completed({"a": 1})  # type: ignore[dict-item]
