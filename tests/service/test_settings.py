"""Settings: the docs page follows the class, and wrong values are refused with a reason."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, render_docs

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_docs_page_is_the_generated_one() -> None:
    assert DOCS.read_text() == render_docs(), "run: tandem settings-docs > docs/settings.md"
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_the_environment_overrides_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_MAX_K", "7")
    monkeypatch.setenv("TANDEM_EXPERIMENT_WEIGHTS", '{"sasrec": 0.25, "tiger": 0.75}')
    settings = Settings()
    assert settings.max_k == 7
    assert settings.experiment_weights == {"sasrec": 0.25, "tiger": 0.75}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("experiment_weights", {"sasrec": 0.9}, "must sum to 1, got 0.9"),
        ("experiment_weights", {"gpt": 1.0}, "must name variants of"),
        ("experiment_weights", {"sasrec": -1.0, "tiger": 2.0}, "greater than or equal to 0"),
        ("port", 70_000, "less than or equal to 65535"),
        ("queue_limit", 0, "greater than 0"),
        ("log_level", "loud", "debug"),
        ("precision", "int4", "'auto', 'fp32' or 'int8'"),
        ("no_such_setting", 1, "Extra inputs"),
    ],
)
def test_wrong_values_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(**{name: value})  # type: ignore[arg-type]
