from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import torch

from deblurkit.memory.containers import Container, large_containers


class Part:
    __slots__ = ("names",)

    def __init__(self, count):
        self.names = {str(number): [number] for number in range(count)}


@dataclass
class Files:
    listed: list
    array: np.ndarray


class Dataset(torch.utils.data.Dataset):
    def __init__(self):
        self.paths = [f"{number}.png" for number in range(20_000)]
        self.files = Files([(number, number) for number in range(6_000)], np.arange(10**6))
        self.parts = [Part(5), Part(4_000)]
        self.frames = torch.zeros(10**6)
        self.text = "a" * 10**6
        self.one = [1]


def test_large_containers_are_found_with_their_paths_and_counts():
    """A list of 6,000 pairs holds 18,000 objects; a dict of 4,000 lists of one 12,000."""
    assert large_containers(Dataset(), name="clips") == [
        Container("clips.paths", "list", 20_000),
        Container("clips.files.listed", "list", 18_000),
        Container("clips.parts[1].names", "dict", 12_000),
    ]


def test_the_largest_come_first_and_no_more_than_asked_for():
    found = large_containers(Dataset(), name="clips", fewest=1, most=2)
    assert [container.path for container in found] == ["clips.paths", "clips.files.listed"]
    assert found[0].as_words() == "clips.paths, a list of 20,000 objects"


def test_arrays_of_objects_count_and_others_do_not():
    names = np.array([object() for _ in range(12_000)], dtype=object)
    Holder = namedtuple("Holder", "array")
    held = type("Held", (), {})()
    held.names, held.numbers, held.inner = names, np.arange(10**6), Holder(np.zeros(20_000))
    assert large_containers(held, name="it") == [Container("it.names", "array", 12_000)]


def test_a_container_in_itself_ends():
    held = type("Held", (), {})()
    held.loop = []
    held.loop.append(held.loop)
    held.own = held
    (found,) = large_containers(held, name="it", fewest=1)
    assert found.path == "it.loop"
