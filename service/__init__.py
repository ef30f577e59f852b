"""Everything online: the FastAPI application, batching, ONNX Runtime engines, Redis and experiments."""
