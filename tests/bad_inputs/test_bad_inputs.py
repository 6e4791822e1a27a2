"""Every bad input ends in an error that says what to do, or is handled as the documents say."""

import signal

import bad_inputs_page as page
import pytest
from bad_themes import THEMES
from data_root import DataRoot

CASES = [(theme, case) for theme in THEMES for case in theme.cases]
_SECONDS = 120


@pytest.fixture(autouse=True)
def no_waiting_for_ever():
    """A reader that waits for a pipe fails instead of stopping all tests."""

    def give_up(*_):
        raise AssertionError("it still waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("theme", "case"), CASES, ids=[f"{t.title}: {c.what}" for t, c in CASES])
def test_bad_input(theme, case, tmp_path, request):
    if theme.on_data_set:
        DataRoot.copy_of(request.getfixturevalue("synthetic_root"), tmp_path / "data")
    if case.error is None:
        case.run(tmp_path)
        return
    with pytest.raises(case.error) as raised:
        case.run(tmp_path)
    assert type(raised.value).__name__ == case.error.__name__
    message, place = str(raised.value), 0
    for part in case.parts:
        place = message.find(part, place)
        assert place >= 0, f"{part!r} is not in {message!r}, or not there"
        place += len(part)


def test_at_least_sixty_inputs_are_tried():
    assert len(CASES) >= 60
    assert len({(theme.title, case.what) for theme, case in CASES}) == len(CASES)


def test_the_page_is_written_from_the_cases():
    assert page.PAGE.read_text(encoding="utf-8") == page.text(), (
        "renew it: python tests/bad_inputs/bad_inputs_page.py"
    )
