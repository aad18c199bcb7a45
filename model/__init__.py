"""The Keye-VL-1.5 architecture: visual tokens, slow-fast, ViT, projector, language model, processor."""
