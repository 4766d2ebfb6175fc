"""Presets in ONNX, a format that many programs run, browsers among them. Nothing else in Atelier imports onnx.

`tests/onnx_engine.py` draws with an export, in NumPy and onnxruntime, and docs/site/drawing in a browser.
"""
