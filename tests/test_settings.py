"""Settings: which variable sets what, who wins, and what a mistake says."""

import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from fairlead.core import Policy, Timeout
from fairlead.errors import ConfigError
from fairlead.settings import make, options

HINTS: dict[str, Any] = {
    "timeout": float | Timeout | None,
    "base_url": str,
    "max_retries": int,
    "verify": bool | str,
    "headers": dict[str, str] | None,
    "engine": Literal["native", "aiohttp"],
    "api_key": SecretStr,
}


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_env(text: str) -> None:
    Path(".env").write_text(text, "utf-8")


class WeChat:
    def __init__(self, app_id: str, app_secret: SecretStr, *, region: str = "cn", **options: Any) -> None:
        self.app_id, self.app_secret, self.region, self.options = app_id, app_secret, region, options


def test_variables_of_the_class_are_read_as_the_types_of_the_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER__TIMEOUT", "2")
    monkeypatch.setenv("WEATHER__BASE_URL", "http://localhost:8101")
    monkeypatch.setenv("WEATHER__MAX_RETRIES", "5")
    found = options("Weather", HINTS)
    assert found == {"timeout": 2.0, "base_url": "http://localhost:8101", "max_retries": 5}
    assert type(found["timeout"]) is float


def test_a_class_is_not_set_by_the_variables_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHERMAP__TIMEOUT", "2")
    monkeypatch.setenv("TIMEOUT", "3")
    monkeypatch.setenv("WEATHER_TIMEOUT", "4")
    assert options("Weather", HINTS) == {}


def test_names_without_a_hint_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER__KEY", "for someone else")
    assert options("Weather", HINTS) == {}


def test_dot_env_sets_what_the_environment_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    write_env("# ours\nWEATHER__TIMEOUT=2\nexport WEATHER__MAX_RETRIES='7'\nOTHER=1\n")
    monkeypatch.setenv("WEATHER__TIMEOUT", "3")
    assert options("Weather", HINTS) == {"timeout": 3.0, "max_retries": 7}


def test_names_may_be_written_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("weather__timeout", "2")
    write_env("weather__max_retries=4\n")
    assert options("Weather", HINTS) == {"timeout": 2.0, "max_retries": 4}


@pytest.mark.parametrize("written", ["", '""'])
def test_a_variable_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("WEATHER__MAX_RETRIES", "")
    write_env(f"WEATHER__TIMEOUT={written}\n")
    assert options("Weather", HINTS) == {}


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("verify", "false", False),
        ("verify", "/etc/ca.pem", "/etc/ca.pem"),
        ("timeout", '{"total": 3, "attempt": 1}', Timeout(total=3.0, attempt=1.0)),
        ("timeout", "none", None),
        ("headers", '{"X-Team": "blue"}', {"X-Team": "blue"}),
        ("engine", "aiohttp", "aiohttp"),
    ],
)
def test_richer_types_are_read_too(monkeypatch: pytest.MonkeyPatch, name: str, written: str, value: object) -> None:
    monkeypatch.setenv(f"WEATHER__{name.upper()}", written)
    assert options("Weather", HINTS) == {name: value}


@pytest.mark.parametrize(
    ("name", "written", "said"),
    [
        ("timeout", "soon", "WEATHER__TIMEOUT='soon' in the environment: input should be a valid number"),
        (
            "max_retries",
            "2.5",
            "WEATHER__MAX_RETRIES='2.5' in the environment: input should be a valid integer",
        ),
        (
            "engine",
            "curl",
            "WEATHER__ENGINE='curl' in the environment: input should be 'native' or 'aiohttp'",
        ),
        ("timeout", '{"total": -3}', "total=-3.0 is not a number of seconds above 0"),
    ],
)
def test_a_bad_value_names_the_variable_the_value_and_the_mend(
    monkeypatch: pytest.MonkeyPatch, name: str, written: str, said: str
) -> None:
    monkeypatch.setenv(f"WEATHER__{name.upper()}", written)
    with pytest.raises(ConfigError) as caught:
        options("Weather", HINTS)
    assert said in str(caught.value)
    assert str(caught.value).endswith("; correct it or unset it")


def test_a_bad_value_in_dot_env_is_said_to_be_there() -> None:
    write_env("WEATHER__TIMEOUT=soon\n")
    with pytest.raises(ConfigError, match=r"^WEATHER__TIMEOUT in \.env: input should be a valid number"):
        options("Weather", HINTS)


@pytest.mark.parametrize(("name", "hint"), [("headers", dict[str, str]), ("api_key", int), ("pins", list[int])])
def test_a_bad_value_that_may_be_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, hint: Any) -> None:
    monkeypatch.setenv(f"WEATHER__{name.upper()}", "hunter2")
    with pytest.raises(ConfigError) as caught:
        options("Weather", {name: hint})
    shown = f"{caught.value}{caught.value.__cause__}"
    assert f"WEATHER__{name.upper()} in the environment: " in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize("hint", [Policy, ssl.SSLContext])
def test_a_type_that_no_text_can_be_is_left_to_code(monkeypatch: pytest.MonkeyPatch, hint: Any) -> None:
    monkeypatch.setenv("WEATHER__ON_CLOSE", "x")
    with pytest.raises(ConfigError, match=r"^WEATHER__ON_CLOSE in the environment: .*; correct it or unset it"):
        options("Weather", {"on_close": hint})


def test_a_file_that_is_not_utf_8_is_said_to_be_so() -> None:
    Path(".env").write_bytes(b"WEATHER__BASE_URL=http://caf\xe9\n")
    with pytest.raises(ConfigError, match=r"\.env is not UTF-8"):
        options("Weather", HINTS)


def test_the_library_is_imported_only_where_something_is_set() -> None:
    write_env("OTHER__TIMEOUT=2\n")
    code = (
        "import sys; from fairlead.settings import make, options; options('Weather', {'timeout': float}); make(type('Weather', (), {}));"
        "print([m for m in sys.modules if m.startswith('pydantic')])"
    )
    source = Path(__file__).parents[1] / "src"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(source)},
    )
    assert ran.stdout.strip() == "[]"


def test_without_the_library_the_mend_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic_settings", None)
    assert options("Weather", HINTS) == {}
    monkeypatch.setenv("WEATHER__TIMEOUT", "2")
    with pytest.raises(ConfigError, match=r"WEATHER__TIMEOUT is set.*pip install 'fairlead\[fastapi\]'"):
        options("Weather", HINTS)


def test_a_class_is_made_from_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WECHAT__APP_ID", "wx1")
    monkeypatch.setenv("WECHAT__APP_SECRET", "hunter2")
    client = make(WeChat)
    assert (client.app_id, client.region, client.options) == ("wx1", "cn", {})
    assert isinstance(client.app_secret, SecretStr)
    assert client.app_secret.get_secret_value() == "hunter2"


def test_what_is_given_wins_over_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WECHAT__APP_ID", "wx1")
    monkeypatch.setenv("WECHAT__APP_SECRET", "hunter2")
    monkeypatch.setenv("WECHAT__REGION", "eu")
    client = make(WeChat, app_id="wx2", timeout=3.0)
    assert (client.app_id, client.region, client.options) == ("wx2", "eu", {"timeout": 3.0})


def test_missing_arguments_name_the_variables_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WECHAT__APP_ID", "wx1")
    with pytest.raises(
        ConfigError, match=r"^WeChat needs app_secret: set WECHAT__APP_SECRET in the environment or in \.env$"
    ):
        make(WeChat)
    monkeypatch.delenv("WECHAT__APP_ID")
    with pytest.raises(ConfigError, match="WECHAT__APP_ID and WECHAT__APP_SECRET"):
        make(WeChat)


def test_arguments_behind_kwargs_are_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pay(WeChat):
        def __init__(self, shop: int, **options: Any) -> None:
            super().__init__(**options)
            self.shop = shop

    for name, value in {"SHOP": "7", "APP_ID": "wx1", "APP_SECRET": "s", "TIMEOUT": "2"}.items():
        monkeypatch.setenv(f"PAY__{name}", value)
    client = make(Pay)
    assert (client.shop, client.app_id, client.options) == (7, "wx1", {})


def test_arguments_hidden_behind_kwargs_are_not_asked_for() -> None:
    class Fixed(WeChat):
        def __init__(self, **options: Any) -> None:
            super().__init__("fixed", SecretStr("s"), **options)

    assert make(Fixed).app_id == "fixed"


def test_an_argument_without_a_type_is_a_string(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare:
        def __init__(self, place) -> None:  # type: ignore[no-untyped-def]
            self.place = place

    monkeypatch.setenv("BARE__PLACE", "7")
    assert make(Bare).place == "7"


def test_a_class_with_nothing_set_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Plain:
        place: str = "here"

    monkeypatch.setitem(sys.modules, "pydantic_settings", None)
    assert make(Plain) == Plain("here")


def test_a_type_unknown_at_run_time_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        def __init__(self, place: "Nowhere" = None) -> None:  # type: ignore[name-defined]  # noqa: F821
            self.place = place

    monkeypatch.setenv("ODD__PLACE", "7")
    with pytest.raises(ConfigError, match=r"Odd.__init__: the type 'Nowhere'"):
        make(Odd)
