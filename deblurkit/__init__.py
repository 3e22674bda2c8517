"""Train video-deblurring networks with a spike camera, and know where every millisecond and gigabyte goes."""

__version__ = "0.1.0"
