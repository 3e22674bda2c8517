from deblurkit.timing.step_file import StepFile


class Lines(StepFile):
    def write(self, line):
        self._file.write(line)
        self._step_written()


def test_steps_reach_the_disk_as_many_at_a_time_as_agreed(tmp_path):
    path = tmp_path / "steps"
    lines = Lines(path, flush_interval=2)
    seen = []
    for number in range(5):
        lines.write(f"{number}\n")
        seen.append(path.read_text().split())
    assert [len(steps) for steps in seen] == [0, 2, 2, 4, 4]
    lines.abandon()
    lines.abandon()
    assert path.read_text().split() == list("01234")
