"""Taking a network elsewhere: a checkpoint's generator as ONNX, TorchScript, safetensors or a published checkpoint."""
