"""The process: uvicorn and its drain, connections, keys, the log of requests."""
