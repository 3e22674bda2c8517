"""A loop that knows where its time goes; the README beside it says how to read the log."""

import time

from deblurkit.timing.logger import TimingLogger, log_timing, scope, set_global_timing_logger


def load() -> None:
    time.sleep(0.004)


def work() -> None:
    with scope("编码器"):
        time.sleep(0.006)
    with scope("解码器"):
        time.sleep(0.003)


def main() -> None:
    logger = TimingLogger("outputs/timing_example", samples_per_step=1)
    set_global_timing_logger(logger)
    for _ in range(60):
        with scope("data"):
            load()
        with scope("前向传播总耗时"):
            work()
        log_timing("measured elsewhere", 1.0)
        time.sleep(0.001)
        logger.step()
    logger.print_summary()
    logger.close()


if __name__ == "__main__":
    main()
