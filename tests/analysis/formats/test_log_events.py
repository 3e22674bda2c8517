import pytest

from deblurkit.analysis.formats.log_events import event_text, inside_traceback, kind_of, seconds_of

WATCHDOG = (
    "[rank1]:[E626 06:24:44.903881913 ProcessGroupNCCL.cpp:616] [Rank 1] Watchdog caught collective operation"
    " timeout: WorkNCCL(SeqNum=808, OpType=ALLREDUCE, Timeout(ms)=600000) ran for 600020 milliseconds before"
    " timing out."
)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (
            "oom",
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 47.5 GiB)",
        ),
        ("oom", "RuntimeError: Out of memory"),
        ("oom", "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        ("killed", "[1234.5] Out of memory: Killed process 1234 (python) total-vm:1kB"),
        ("killed", "RuntimeError: DataLoader worker (pid 1817) is killed by signal: Killed."),
        ("killed", "RuntimeError: DataLoader worker (pid(s) 12, 13) exited unexpectedly"),
        (
            "killed",
            "ERROR:torch.distributed.elastic.multiprocessing.api:failed (exitcode: -9) local_rank: 0",
        ),
        ("killed", "  traceback : Signal 9 (SIGKILL) received by PID 5"),
        ("killed", "slurmstepd: error: Detected 1 oom_kill event in StepId=1.batch"),
        ("killed", "Killed"),
        ("killed", "Segmentation fault (core dumped)"),
        ("killed", "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        ("killed", "OSError: [Errno 12] Cannot allocate memory"),
        ("watchdog", WATCHDOG),
        ("watchdog", "[Rank 0] NCCL watchdog thread terminated with exception"),
        ("watchdog", "RuntimeError: Some NCCL operations have failed or timed out."),
        ("watchdog", "RuntimeError: Timed out waiting 1800000ms for recv operation to complete"),
        ("nonfinite", "Loss is nan, stopping training"),
        ("nonfinite", "loss became NaN at step 12"),
        ("nonfinite", "the weights became NaN or infinite at or before step 3"),
        ("nonfinite", "RuntimeError: Function 'MulBackward0' returned nan values in its 0th output."),
        ("memory-warning", "⚠️  WARNING: System memory usage is critically high (91.2%)!"),
        ("error", "ValueError: expected 3 channels"),
        ("error", "[rank0]: torch.AcceleratorError: boom"),
        ("resume", "2024-01-31 INFO: Resuming training from epoch: 1, iter: 5000."),
        ("checkpoint", "INFO: Saving models and training states."),
        ("checkpoint", "Saving checkpoint at 1 epochs"),
        ("checkpoint", "Model weights saved in out/pytorch_model.bin"),
        ("checkpoint", "[Torch] Saving ./out/global_step1000/mp_rank_00_model_states.pt..."),
        ("checkpoint", "saved to /data/runs/7/net_g_5000.pth"),
        ("validation", "Validation gopro,   # psnr: 30.0500 # ssim: 0.9512"),
        ("validation", "***** Running Evaluation *****"),
        ("validation", "validation after step 150 (vrt): PSNR 25.72 dB"),
        ("start", "***** Running training *****"),
        ("start", "Start training from epoch: 0, iter: 0"),
        ("epoch", "Epoch 3 finished in 12 s"),
    ],
)
def test_what_happened(kind, line):
    assert kind_of(line.encode()) == kind


@pytest.mark.parametrize(
    "line",
    [
        "",
        "loading the data took 3 s",
        "2024-01-31 10:00:00,000 INFO: another line",
        "  resume_state: ~",
        "auto_resume: False",
        "Checkpoints will be saved to /home/x by HardDiskBackend.",
        "number of skipped iterations:   0 | number of nan iterations:   0 |",
        "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536, reducing to 32768",
        "the financial news of nancy",
        "UserWarning: an error of rounding",
        "  exitcode  : 1 (pid: 4)",
        "Number of val images/folders in gopro: 11",
        "TimeoutError is what we catch here",
        "loaded net_g_5000.pth, saving energy; see x.ptx",
        "  num_iter_per_epoch: 100",
    ],
)
def test_what_is_nothing_to_note(line):
    assert kind_of(line.encode()) is None


def test_a_time_out_says_how_long_it_waited():
    assert seconds_of(WATCHDOG.encode()) == 600.02
    assert seconds_of(b"Killed") is None


def test_where_a_traceback_goes_on():
    assert inside_traceback(b"  File 'x.py', line 3, in <module>")
    assert inside_traceback(b"[rank0]:     run()")
    assert inside_traceback(b"")
    assert not inside_traceback(b"RuntimeError: boom")
    assert not inside_traceback(b"[rank0]: RuntimeError: boom")


def test_the_text_of_an_event_is_short_and_printable():
    assert event_text("  内存\x07不足 ".encode() + b"\xff") == "内存 不足 \N{REPLACEMENT CHARACTER}"
    assert len(event_text(b"x" * 5000)) == 300
