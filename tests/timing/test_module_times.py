"""A chain of modules that move a clock by known times is the truth that the rows are compared with."""

import gc
import time
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from deblurkit.timing.module_times import ModuleTimes


class Ticking:
    """A clock that stands still unless it is moved."""

    name = "host"

    def __init__(self):
        self.now = 0

    def mark(self):
        return self.now


class _Work(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, clock, forward, backward):
        ctx.clock, ctx.backward_time = clock, backward
        ctx.save_for_backward(weight)
        clock.now += forward
        return x * weight

    @staticmethod
    def backward(ctx, grad):
        (weight,) = ctx.saved_tensors
        ctx.clock.now += ctx.backward_time
        return grad * weight, grad.sum(), None, None, None


class Slow(nn.Module):
    def __init__(self, clock, forward, backward):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.clock, self.times = clock, (forward, backward)

    def forward(self, x):
        return _Work.apply(x, self.weight, self.clock, *self.times)


class Chain(nn.Module):
    """A stem and blocks of two parts each, the blocks recomputed as asked."""

    def __init__(self, clock, mode="none", blocks=3):
        super().__init__()
        self.mode = mode
        self.stem = Slow(clock, 7, 11)
        self.blocks = nn.ModuleList(
            nn.Sequential(Slow(clock, 100 + k, 200 + k), Slow(clock, 10 + k, 30 + k)) for k in range(blocks)
        )

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            if self.mode == "none":
                x = block(x)
            else:
                x = checkpoint(block, x, use_reentrant=self.mode == "reentrant")
        return x


def rows_of(model):
    rows = {model.stem: "stem"}
    for k, block in enumerate(model.blocks):
        rows |= {block: f"block{k}", block[0]: f"block{k}/first", block[1]: f"block{k}/second"}
    return rows


def summed(spans):
    total = {}
    for span in spans:
        total[span.name] = total.get(span.name, 0) + span.weight * (span.end - span.start)
    return total


def step(model, times, x=None):
    times.begin()
    model(torch.ones(2) if x is None else x).sum().backward()
    return summed(times.take())


@pytest.mark.parametrize("mode", ["none", "reentrant", "non-reentrant"])
def test_forward_backward_and_recompute_of_every_module_are_the_known_times(mode):
    clock = Ticking()
    model = Chain(clock, mode)
    times = ModuleTimes(rows_of(model), clock)
    for _ in range(3):
        found = step(model, times)
        expected = {"forward/stem": 7, "backward/stem": 11}
        for k in range(3):
            for kind, first, second in (("forward", 100 + k, 10 + k), ("backward", 200 + k, 30 + k)):
                expected |= {
                    f"{kind}/block{k}": first + second,
                    f"{kind}/block{k}/first": first,
                    f"{kind}/block{k}/second": second,
                }
            if mode != "none":
                expected |= {
                    f"backward/recompute/block{k}": 110 + 2 * k,
                    f"backward/recompute/block{k}/first": 100 + k,
                    f"backward/recompute/block{k}/second": 10 + k,
                }
        assert found == expected


def test_the_rows_of_a_step_add_up_to_its_time():
    clock = Ticking()
    model = Chain(clock, "non-reentrant")
    found = step(model, ModuleTimes(rows_of(model), clock))
    top = [name for name in found if name.count("/") == 1 or name.startswith("backward/recompute/")]
    top = [name for name in top if not name.endswith(("first", "second"))]
    assert sum(found[name] for name in top) == clock.now


def test_a_frozen_module_has_no_backward_pass():
    clock = Ticking()
    model = Chain(clock)
    for module in (model.stem, model.blocks[0]):
        module.requires_grad_(False)
    found = step(model, ModuleTimes(rows_of(model), clock))
    assert found["forward/stem"] == 7 and found["forward/block0"] == 110
    assert not any(name.startswith(("backward/stem", "backward/block0")) for name in found)
    assert found["backward/block1"] == 232


def test_a_module_that_is_called_twice_has_both_its_times():
    clock = Ticking()
    shared = Slow(clock, 5, 9)
    model = nn.Sequential(shared, Slow(clock, 1, 2), shared)
    found = step(model, ModuleTimes({shared: "shared"}, clock))
    assert found == {"forward/shared": 10, "backward/shared": 18}


def test_a_module_that_gives_several_tensors_begins_with_the_first_gradient():
    class Two(Slow):
        def forward(self, x):
            return super().forward(x), {"more": [super().forward(x)]}

    clock = Ticking()
    two, stem = Two(clock, 5, 9), Slow(clock, 1, 2)
    times = ModuleTimes({two: "two"}, clock)
    times.begin()
    first, rest = two(stem(torch.ones(2)))
    (first.sum() + rest["more"][0].sum()).backward()
    assert summed(times.take()) == {"forward/two": 10, "backward/two": 18}


def test_nothing_is_noted_outside_a_step_or_without_gradients():
    clock = Ticking()
    model = Chain(clock)
    times = ModuleTimes(rows_of(model), clock)
    model(torch.ones(2)).sum().backward()
    assert times.take() == [] and times.marks == 0
    times.begin()
    with torch.no_grad():
        model(torch.ones(2))
    assert set(summed(times.take())) == {f"forward/{row}" for row in rows_of(model).values()}


def test_a_module_that_raises_leaves_the_rest_in_order():
    class Failing(Slow):
        def forward(self, x):
            raise ValueError("no")

    clock = Ticking()
    good, bad = Slow(clock, 3, 4), Failing(clock, 1, 1)
    times = ModuleTimes({good: "good", bad: "bad"}, clock)
    times.begin()
    with pytest.raises(ValueError, match="no"):
        bad(torch.ones(2))
    good(torch.ones(2, requires_grad=True)).sum().backward()
    found = summed(times.take())
    assert found["forward/good"] == 3 and found["backward/good"] == 4


def test_hooks_go_when_they_are_removed():
    clock = Ticking()
    model = Chain(clock)
    times = ModuleTimes(rows_of(model), clock)
    step(model, times)
    times.remove()
    assert step(model, times) == {}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


def test_of_a_module_that_begins_the_graph_one_parameter_keeps_its_hook():
    clock = Ticking()
    stem = nn.Sequential(*(Slow(clock, 1, 10 * k) for k in range(1, 5)))
    times = ModuleTimes({stem: "stem"}, clock)
    for _ in range(3):
        assert step(stem, times) == {"forward/stem": 4, "backward/stem": 100}
    assert sum(bool(p._post_accumulate_grad_hooks) for p in stem.parameters()) == 1


class Sleeping:
    """A clock that goes, and that is moved by sleeping."""

    name = "host"

    @property
    def now(self):
        return 0

    @now.setter
    def now(self, milliseconds):
        time.sleep(milliseconds / 1e3)

    def mark(self):
        return 1e3 * time.perf_counter()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["none", "reentrant", "non-reentrant"])
def test_real_sleeps_are_found_again(mode):
    """Within 3 % of the milliseconds slept, and the whole within 1 % of the wall time."""
    clock = Sleeping()
    model = Chain(clock, mode)
    times = ModuleTimes(rows_of(model), clock)
    step(model, times)
    start = clock.mark()
    found = step(model, times)
    wall = clock.mark() - start
    for k in range(3):
        for kind, first, second in (("forward", 100 + k, 10 + k), ("backward", 200 + k, 30 + k)):
            assert found[f"{kind}/block{k}/first"] == pytest.approx(first, rel=0.03)
            assert found[f"{kind}/block{k}"] == pytest.approx(first + second, rel=0.03)
        if mode != "none":
            assert found[f"backward/recompute/block{k}"] == pytest.approx(110 + 2 * k, rel=0.03)
    whole = [name for name in found if name.rpartition("/")[2].startswith(("block", "stem"))]
    assert sum(found[name] for name in whole) == pytest.approx(wall, rel=0.01)


def test_thinning_out_leaves_the_rows_above():
    clock = Ticking()
    model = Chain(clock)
    times = ModuleTimes(rows_of(model), clock)
    assert times.thin_out() == 4
    assert set(step(model, times)) == {
        f"{kind}/{row}" for kind in ("forward", "backward") for row in ("stem", "block0", "block1", "block2")
    }
    assert times.thin_out() == 0 and step(model, times) == {}


@pytest.mark.parametrize("mode", ["reentrant", "non-reentrant"])
def test_the_stem_s_time_is_its_own_over_several_micro_steps(mode):
    """Two micro-steps in one step: what is made again in the second lies in no stem of the first."""
    clock = Ticking()
    model = Chain(clock, mode)
    times = ModuleTimes(rows_of(model), clock)
    for _ in range(2):
        times.begin()
        for _ in range(2):
            model(torch.ones(2)).sum().backward()
        found = summed(times.take())
        assert (found["forward/stem"], found["backward/stem"]) == (14, 22)
        assert found["backward/block1"] == 2 * 232 and found["backward/recompute/block1"] == 2 * 112


def test_an_input_whose_gradient_never_comes_takes_nothing_from_a_module():
    class Both(Slow):
        def forward(self, x, unused):
            return super().forward(x)

    clock = Ticking()
    first, both = Slow(clock, 1, 2), Both(clock, 5, 20)
    again = Slow(clock, 100, 200)
    times = ModuleTimes({both: "both", again: "again"}, clock)
    times.begin()
    x = checkpoint(again, first(torch.ones(2)), use_reentrant=False)
    both(x, torch.ones(2, requires_grad=True)).sum().backward()
    found = summed(times.take())
    assert found["backward/both"] == 20 and found["backward/again"] == 200
    assert found["backward/recompute/again"] == 100


def test_a_module_that_begins_the_graph_twice_has_both_its_backward_passes():
    clock = Ticking()
    stem = Slow(clock, 3, 20)
    times = ModuleTimes({stem: "stem"}, clock)
    times.begin()
    (stem(torch.ones(2)) + stem(torch.ones(2))).sum().backward()
    assert summed(times.take()) == {"forward/stem": 6, "backward/stem": 40}


def test_tensors_that_live_on_keep_no_hooks():
    clock = Ticking()
    module, query = Slow(clock, 3, 4), nn.Parameter(torch.ones(2))
    times = ModuleTimes({module: "module"}, clock)
    marks = []
    for _ in range(5):
        assert step(module, times, query) == {"forward/module": 3, "backward/module": 4}
        marks.append(times.marks)
    assert marks == [4, 8, 12, 16, 20]
    assert not query._backward_hooks


class SideBranch(nn.Module):
    """Features that two mergers take, the second one after the main path has gone on for a while."""

    def __init__(self, clock):
        super().__init__()
        self.features = Slow(clock, 3, 5)
        self.first, self.second = Slow(clock, 10, 20), Slow(clock, 30, 40)
        self.mergers = nn.ModuleList(Merge(clock, 2 + k, 6 + k) for k in range(2))

    def forward(self, x):
        features = self.features(x)
        x = self.mergers[0](self.first(x), features)
        return self.mergers[1](self.second(x), features)


class Merge(Slow):
    def forward(self, x, features):
        return super().forward(x + features)


def test_a_module_whose_input_is_of_use_elsewhere_ends_with_its_parameters():
    clock = Ticking()
    model = SideBranch(clock)
    rows = {model.features: "features", model.first: "first", model.second: "second"}
    rows |= {merger: f"merger{k}" for k, merger in enumerate(model.mergers)}
    times = ModuleTimes(rows, clock)
    x = torch.ones(2, requires_grad=True)
    found = [step(model, times, x=x * 1.0) for _ in range(5)]
    expected = {"features": 5, "first": 20, "second": 40, "merger0": 6, "merger1": 7}
    for one in found:
        assert {name: one[f"backward/{name}"] for name in expected} == expected
    hooks = [len(part.weight._post_accumulate_grad_hooks or {}) for part in (model.second, *model.mergers)]
    assert hooks == [0, 1, 1]  # what only comes after another needs none


class Keeping(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, kept):
        ctx.kept = kept
        return x * 1.0

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class Keeper(nn.Module):
    """Its graph keeps a module alive, as that of a checkpointed stage or of FSDP does."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return Keeping.apply(x * self.weight, self)


@pytest.mark.parametrize("is_cut_short", [False, True])
def test_no_graph_outlives_its_step(is_cut_short):
    model = nn.Sequential(Keeper(), Keeper())
    times = ModuleTimes({part: f"part{k}" for k, part in enumerate(model)}, Ticking())
    for _ in range(2):
        times.begin()
        model(torch.ones(2, requires_grad=True) * 1.0).sum().backward()
        if not is_cut_short:
            times.take()
    times.remove()
    alive = [weakref.ref(part) for part in model]
    del model, times
    gc.collect()
    assert [part() for part in alive] == [None, None]
