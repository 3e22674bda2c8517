"""Times of modules, forward, backward and made again, from hooks that only note moments.

A module's backward pass is the time from the first gradient of its output to the last of its input, less
what is made again inside it (gradient checkpointing), which has rows of its own. Where an input comes from
elsewhere than what runs before it, its gradient may be looked at when other modules have run: such a
module's pass ends, with the last of its parameters' gradients. Where it has none it stays an interval in
which others may lie. What autograd does not pass by, such as a frozen module, has no backward pass and no
row of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from deblurkit.timing.clock import Clock, Mark
from deblurkit.timing.records import Span

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

Edge: TypeAlias = tuple[Any, int]  # a node of the graph, and which of its outputs

RECOMPUTE = "recompute"
_FIRST_STEPS = 3  # in which it is looked who has late inputs: the graph is the same in all that follow


class Call:
    """One forward call of a module and the backward pass through it."""

    __slots__ = (
        "backward_end",
        "backward_end_at",
        "backward_start",
        "backward_start_at",
        "ends_by_parameters",
        "forward_end",
        "forward_end_at",
        "forward_start",
        "inputs",
        "is_again",
        "last_input",
        "outputs",
        "parameters_end",
        "parameters_end_at",
        "waiting",
        "watch",
    )

    def __init__(self, watch: _Watch, *, is_again: bool) -> None:
        self.watch = watch
        self.forward_start: Mark = None
        self.forward_end: Mark = None
        self.backward_start: Mark = None
        self.backward_end: Mark = None
        self.backward_start_at = -1  # numbers of marks: which came first, whatever the clock
        self.backward_end_at = -1
        self.forward_end_at = -1
        self.parameters_end: Mark = None  # when the last of its parameters had its gradient
        self.parameters_end_at = -1
        self.is_again = is_again
        self.ends_by_parameters = False
        self.waiting = 0  # inputs whose gradients have not come yet
        self.last_input: int | None = None  # whose gradient came last, a number in `inputs`
        self.inputs: list[Edge] = []
        self.outputs: list[Edge] = []

    def is_fed_by(self, other: Call) -> bool:
        """Return whether the input whose gradient came last is an output of another call."""
        return self.last_input is not None and self.inputs[self.last_input] in other.outputs

    def forget_graph(self) -> None:
        """Let go of the graph, whose hooks hold this call: a circle that no collector sees through."""
        self.inputs.clear()
        self.outputs.clear()

    def end_with_parameters(self) -> None:
        """Let the backward pass end with the parameters' gradients, where the inputs' came late."""
        if self.watch.has_late_inputs and 0 <= self.parameters_end_at < self.backward_end_at:
            self.backward_end, self.backward_end_at = self.parameters_end, self.parameters_end_at


class _Watch:
    """A module that is timed."""

    __slots__ = (
        "handles",
        "has_late_inputs",
        "last_parameter",
        "module",
        "needs_parameters",
        "parameter_handles",
        "row",
    )

    def __init__(self, module: nn.Module, row: str) -> None:
        self.module, self.row = module, row
        self.has_late_inputs = False
        self.needs_parameters = False  # to know when its backward pass ends
        self.handles: list[RemovableHandle] = []
        self.parameter_handles: dict[int, RemovableHandle] = {}
        self.last_parameter: int | None = None


class ModuleTimes:
    """Notes when chosen modules run, step by step; `take` gives the intervals.

    Hooks do nothing outside ``begin`` and ``take``: validation is not timed.

    Args:
        rows: the row of each module, ``/`` for those that lie inside one another.
        clock: of the logger that the intervals go to.
        forward, backward: rows that the modules' rows are put under.
    """

    def __init__(
        self,
        rows: Mapping[nn.Module, str],
        clock: Clock,
        *,
        forward: str = "forward",
        backward: str = "backward",
    ) -> None:
        self._clock = clock
        self._forward, self._backward = forward, backward
        self._watches = [_Watch(module, row) for module, row in rows.items()]
        self._is_on = False
        self._running: dict[int, list[Call]] = {}  # by thread, innermost last
        self._calls: list[Call] = []
        self._going_back: list[Call] = []  # whose backward pass has begun, innermost last
        self._taken: list[tuple[Call, tuple[Call, ...]]] = []  # made again, and whose backward had begun
        self._leaf_hooks: list[RemovableHandle] = []  # on tensors that live longer than a step
        self._steps_to_look_at = _FIRST_STEPS
        self.marks = 0
        for watch in self._watches:
            watch.handles = [
                watch.module.register_forward_pre_hook(self._before(watch), with_kwargs=True),
                watch.module.register_forward_hook(self._after, always_call=True),
            ]

    def begin(self) -> None:
        """Note the calls from now on."""
        self._is_on = True

    def take(self) -> list[Span]:
        """Return the intervals since the last time, and note nothing until `begin`."""
        calls, self._calls = self._calls, []
        again, self._taken = self._taken, []
        self._is_on = False
        for handle in self._leaf_hooks:
            handle.remove()
        self._leaf_hooks.clear()
        self._running.clear()
        self._going_back.clear()
        if self._steps_to_look_at > 0:
            self._steps_to_look_at -= 1
            _find_late_inputs(calls)
        for call in calls:
            call.end_with_parameters()
            call.forget_graph()
        for watch in self._watches:
            if self._steps_to_look_at <= 0 and not watch.needs_parameters:
                _unhook_parameters(watch)
            _keep_last_parameter(watch)
        return [*self._spans(calls), *self._again_spans(again)]

    @property
    def num_modules(self) -> int:
        """How many modules are timed."""
        return len(self._watches)

    def thin_out(self) -> int:
        """Stop timing the modules of the deepest rows, and return how many are left."""
        deepest = max((watch.row.count("/") for watch in self._watches), default=0)
        for watch in self._watches:
            if watch.row.count("/") == deepest:
                _unhook(watch)
        self._watches = [watch for watch in self._watches if watch.handles]
        return len(self._watches)

    def remove(self) -> None:
        """Take all hooks away."""
        for watch in self._watches:
            _unhook(watch)
        self._watches = []
        for call in self._calls:
            call.forget_graph()

    def _mark(self) -> Mark:
        self.marks += 1
        return self._clock.mark()

    def _before(self, watch: _Watch) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not self._is_on:
                return
            call = Call(watch, is_again=is_in_backward())
            self._running.setdefault(_thread(), []).append(call)
            self._calls.append(call)
            if _wants_gradients():
                self._watch_inputs(call, [*args, *kwargs.values()])
            if call.is_again and not any(other.is_again for other in self._running[_thread()][:-1]):
                self._taken.append((call, tuple(self._going_back)))
            call.forward_start = self._mark()

        return note

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        running = self._running.get(_thread())
        if not self._is_on or not running:
            return
        call = running.pop()
        call.forward_end, call.forward_end_at = self._mark(), self.marks
        if _wants_gradients():
            for tensor in tensors_in(output):
                if tensor.requires_grad:
                    self._hook(tensor, self._on_output(call))
                    call.outputs.append(self._edge(tensor))

    def _edge(self, tensor: Tensor) -> Edge:
        """Return what stands for a tensor in the graph, while that is looked at."""
        if self._steps_to_look_at <= 0:
            return None, 0
        return (tensor.grad_fn, tensor.output_nr) if tensor.grad_fn is not None else (None, id(tensor))

    def _hook(self, tensor: Tensor, note: Callable[[Tensor], None]) -> None:
        """Have ``note`` called with the gradient of a tensor, in this step only."""
        handle = tensor.register_hook(note)
        if tensor.is_leaf:
            self._leaf_hooks.append(handle)

    def _watch_inputs(self, call: Call, inputs: list[Any]) -> None:
        wanted = [tensor for tensor in tensors_in(inputs) if tensor.requires_grad]
        call.waiting = len(wanted)
        for number, tensor in enumerate(wanted):
            self._hook(tensor, self._on_input(call, number))
            call.inputs.append(self._edge(tensor))
        call.ends_by_parameters = not wanted
        if not wanted:
            call.watch.needs_parameters = True
        if self._steps_to_look_at > 0 or call.watch.needs_parameters:
            self._watch_parameters(call.watch)

    def _watch_parameters(self, watch: _Watch) -> None:
        """Have the last of the module's parameters to get its gradient end the module's backward pass."""
        if watch.parameter_handles:
            return
        for number, parameter in enumerate(watch.module.parameters()):
            if parameter.requires_grad:
                hook = self._on_parameter(watch, number)
                watch.parameter_handles[number] = parameter.register_post_accumulate_grad_hook(hook)

    def _on_output(self, call: Call) -> Callable[[Tensor], None]:
        def note(grad: Tensor) -> None:
            if self._is_on and call.backward_start is None:
                call.backward_start, call.backward_start_at = self._mark(), self.marks
                self._end_earlier(call)
                self._going_back.append(call)

        return note

    def _end_earlier(self, call: Call) -> None:
        """End another call of the same module: parameters get one gradient for all of them, at the end."""
        for other in self._going_back:
            is_open = other.watch is call.watch and other.ends_by_parameters and other.backward_end is None
            if is_open and call.ends_by_parameters:
                other.backward_end, other.backward_end_at = call.backward_start, self.marks

    def _on_input(self, call: Call, number: int) -> Callable[[Tensor], None]:
        def note(grad: Tensor) -> None:
            if not self._is_on or call.backward_start is None:
                return
            call.waiting -= 1
            call.last_input = number
            call.backward_end, call.backward_end_at = self._mark(), self.marks
            if call.waiting <= 0 and call in self._going_back:
                self._going_back.remove(call)

        return note

    def _on_parameter(self, watch: _Watch, number: int) -> Callable[[Tensor], None]:
        def note(parameter: Tensor) -> None:
            if not self._is_on:
                return
            watch.last_parameter = number
            for call in reversed(self._going_back):
                if call.watch is watch:
                    call.parameters_end, call.parameters_end_at = self._mark(), self.marks
                    if call.ends_by_parameters:
                        call.backward_end, call.backward_end_at = call.parameters_end, self.marks
                    break

        return note

    def _spans(self, calls: list[Call]) -> Iterator[Span]:
        for call in calls:
            row = call.watch.row
            if call.forward_end is not None:
                under = f"{self._backward}/{RECOMPUTE}" if call.is_again else self._forward
                yield Span(f"{under}/{row}", call.forward_start, call.forward_end)
            if call.backward_start is not None and call.backward_end is not None:
                yield Span(f"{self._backward}/{row}", call.backward_start, call.backward_end)

    def _again_spans(self, again: list[tuple[Call, tuple[Call, ...]]]) -> Iterator[Span]:
        """Yield what was made again once more, to be taken from the backward passes that it lies in.

        Of those that had begun by then, these are the ones that ended later: others were over, or will never
        be, as the gradient of an input does not come.
        """
        for call, inside in again:
            if call.forward_end is None:
                continue
            for row in {other.watch.row for other in inside if other.backward_end_at > call.forward_end_at}:
                yield Span(f"{self._backward}/{row}", call.forward_start, call.forward_end, weight=-1)


def _find_late_inputs(calls: list[Call]) -> None:
    """Note in whose backward pass another module's begins that is neither part of it nor what comes next."""
    known = [call for call in calls if call.backward_start_at >= 0 and call.backward_end_at >= 0]
    known.sort(key=lambda call: call.backward_start_at)
    for number, call in enumerate(known):
        for other in known[number + 1 :]:
            if other.backward_start_at > call.backward_end_at:
                break
            if not call.is_fed_by(other) and not _are_nested(call.watch.row, other.watch.row):
                call.watch.has_late_inputs = call.watch.needs_parameters = True
                break


def _are_nested(row: str, other: str) -> bool:
    return row == other or row.startswith(f"{other}/") or other.startswith(f"{row}/")


def _unhook(watch: _Watch) -> None:
    for handle in watch.handles:
        handle.remove()
    watch.handles = []
    _unhook_parameters(watch)


def _unhook_parameters(watch: _Watch) -> None:
    for handle in watch.parameter_handles.values():
        handle.remove()
    watch.parameter_handles.clear()


def _keep_last_parameter(watch: _Watch) -> None:
    """Leave only the hook of the parameter that came last: the order does not change from step to step."""
    if watch.last_parameter is None or len(watch.parameter_handles) < 2:
        return
    for number, handle in list(watch.parameter_handles.items()):
        if number != watch.last_parameter:
            handle.remove()
            del watch.parameter_handles[number]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value, in lists, tuples and mappings too."""
    from torch import Tensor

    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)


def _wants_gradients() -> bool:
    import torch

    return torch.is_grad_enabled()


def is_in_backward() -> bool:
    """Return whether this thread is inside a backward pass: a forward call there is made again."""
    import torch

    current = getattr(torch._C, "_current_graph_task_id", None)  # private: perhaps not there for ever
    return current is not None and current() != -1


def _thread() -> int:
    import threading

    return threading.get_ident()
