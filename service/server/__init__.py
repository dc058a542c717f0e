"""The process: uvicorn and its drain, connections, API keys, the request log."""
