"""Taking a network elsewhere: a checkpoint's generator as ONNX, safetensors or a published checkpoint."""
