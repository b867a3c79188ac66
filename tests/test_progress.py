from kforce.progress import progress_bar, show_progress


def test_nothing_is_shown_unless_asked_for(capfd):
    with progress_bar(3, "work") as advance:
        advance(3)
    assert capfd.readouterr() == ("", "")


def test_a_bar_goes_to_standard_error_after_a_second(capfd, monkeypatch):
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(clock)))
    with show_progress(), progress_bar(4, "factoring") as advance:
        for _ in range(4):
            advance(1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "factoring: " in err
    assert "100%" in err


def test_quick_work_shows_no_bar(capfd):
    with show_progress(), progress_bar(4, "factoring") as advance:
        advance(4)
    assert "factoring" not in capfd.readouterr().err


def test_it_is_off_again_after_the_block(capfd):
    with show_progress():
        pass
    with progress_bar(1, "work") as advance:
        advance(1)
    assert capfd.readouterr().err == ""
