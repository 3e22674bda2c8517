"""VRT, the Video Restoration Transformer (arXiv:2201.12288), and its spike branch."""
