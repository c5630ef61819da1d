"""Taking a network elsewhere: a checkpoint's generator as ONNX, TorchScript, safetensors or a published checkpoint."""
from facesr.export.exporter import TOLERANCE, Exported, export_checkpoint, summary
from facesr.export.formats import FORMATS, OPSET
from facesr.export.weights import load_safetensors, read_safetensors

__all__ = [
    'FORMATS', 'OPSET', 'TOLERANCE', 'Exported', 'export_checkpoint', 'load_safetensors', 'read_safetensors', 'summary'
]
