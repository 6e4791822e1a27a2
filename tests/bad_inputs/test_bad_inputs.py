"""Every bad input raises an error with a remedy, or is handled as documented."""

import signal

import bad_inputs_page as page
import pytest
from bad_themes import THEMES
from data_root import DataRoot

CASES = [(theme, case) for theme in THEMES for case in theme.cases]
_SECONDS = 120


@pytest.fixture(autouse=True)
def time_limit():
    """Makes a reader that blocks on a pipe fail instead of stopping all tests."""

    def fail(*_):
        raise AssertionError("the time limit is exceeded")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("theme", "case"), CASES, ids=[f"{t.title}: {c.name}" for t, c in CASES])
def test_bad_input(theme, case, tmp_path, request):
    if theme.on_data_set:
        DataRoot.copy_of(request.getfixturevalue("synthetic_root"), tmp_path / "data")
    if case.error is None:
        case.run(tmp_path)
        return
    with pytest.raises(case.error) as raised:
        case.run(tmp_path)
    assert type(raised.value).__name__ == case.error.__name__
    message, position = str(raised.value), 0
    for part in case.parts:
        position = message.find(part, position)
        assert position >= 0, f"{part!r} is not in {message!r}, or not at its place"
        position += len(part)


def test_the_page_is_generated_from_the_cases():
    assert len({(theme.title, case.name) for theme, case in CASES}) == len(CASES) >= 60
    assert (
        page.PAGE.read_text(encoding="utf-8") == page.text()
    ), "update it: python tests/bad_inputs/bad_inputs_page.py"
