import pytest

from deblurkit.analysis.formats.tensorboard_tags import meaning_of


@pytest.mark.parametrize(
    ("tag", "name", "scale", "split"),
    [
        # our own
        ("train/loss", "loss", 1, "train"),
        ("train/loss/vgg", "loss/vgg", 1, "train"),
        ("train/learning_rate", "learning_rate", 1, "train"),
        ("train/samples_per_second", "samples_per_second", 1, "train"),
        ("train/data_ms", "data_ms", 1, "train"),
        ("train/load_ms", "load_ms", 1, "train"),
        ("validation/psnr_db", "psnr_db", 1, "validation"),
        ("validation/ssim", "ssim", 1, "validation"),
        ("quick_look/psnr_db", "psnr_db/quick_look", 1, "quick_look"),
        # Lightning
        ("train_loss", "loss", 1, "train"),
        ("train_loss_step", "loss", 1, "train"),
        ("train_loss_epoch", "loss/epoch", 1, "train"),
        ("val_loss", "loss/validation", 1, "validation"),
        ("val/psnr", "psnr_db", 1, "validation"),
        ("train/psnr", "psnr_db/train", 1, "train"),
        ("epoch", "epoch", 1, ""),
        ("lr-AdamW", "learning_rate", 1, ""),
        ("lr-AdamW/pg1", "learning_rate/pg1", 1, ""),
        ("grad_2.0_norm_total", "grad_norm", 1, ""),
        (
            "DeviceStatsMonitor.on_train_batch_start/reserved_bytes.all.current",
            "cuda_reserved_bytes/DeviceStatsMonitor.on_train_batch_start",
            1,
            "",
        ),
        # HF Trainer
        ("train/grad_norm", "grad_norm", 1, "train"),
        ("train/epoch", "epoch", 1, "train"),
        ("eval/loss", "loss/validation", 1, "validation"),
        ("eval/samples_per_second", "samples_per_second/validation", 1, "validation"),
        # BasicSR, mmengine
        ("losses/l_pix", "loss/pix", 1, ""),
        ("losses/percep", "loss/percep", 1, ""),
        ("l_g_gan", "loss/g_gan", 1, ""),
        ("train/cls_loss", "loss/cls", 1, "train"),
        ("metrics/psnr", "psnr_db", 1, ""),
        ("metrics/GoPro/ssim", "ssim/GoPro", 1, ""),
        ("data_time", "data_ms", 1000, ""),
        ("time", "printed_ms", 1000, ""),
        ("lr", "learning_rate", 1, ""),
        # as people write them
        ("Loss/train", "loss", 1, "train"),
        ("Loss/test", "loss/validation", 1, "validation"),
        ("Learning Rate", "learning_rate", 1, ""),
        ("训练/损失", "训练/损失", 1, ""),
        ("test/各向异性", "test/各向异性", 1, "validation"),
        ("lrelu_sparsity", "lrelu_sparsity", 1, ""),
        ("latest/score", "latest/score", 1, ""),
        ("train", "train", 1, "train"),
    ],
)
def test_a_tag_means(tag, name, scale, split):
    meaning = meaning_of(tag)
    assert (meaning.name, meaning.scale, meaning.split) == (name, scale, split)
