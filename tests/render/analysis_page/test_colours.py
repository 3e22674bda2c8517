from deblurkit.render.analysis_page.colours import REST, filled, phase_hues


def test_a_phase_has_one_colour_in_every_log_and_language():
    english = phase_hues(["data", "forward", "backward"])
    chinese = phase_hues(["反向传播", "数据加载", "前向传播", "别的"])
    assert english == {
        "data": chinese["数据加载"],
        "forward": chinese["前向传播"],
        "backward": chinese["反向传播"],
    }
    assert len(set(chinese.values())) == 4


def test_time_that_no_phase_covers_is_grey():
    hues = phase_hues(["forward", "unaccounted"])
    assert filled(hues["unaccounted"]) == REST
    assert filled(hues["forward"]) != REST
